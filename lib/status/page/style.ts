/** The page's style: light and dark as the reader has it, one column on a phone. @module */

export const STYLE = `
:root {
  color-scheme: light dark;
  --back: #f6f7f9; --card: #ffffff; --line: #d5d9e0; --text: #1b1f27; --dim: #59616f;
  --bar: #2f6fde; --track: #e3e7ee; --good: #1a7f42; --warn: #8a5a00; --bad: #b3261e; --focus: #0b57d0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #12151b; --card: #1b1f27; --line: #333a46; --text: #e7eaf0; --dim: #a2abb9;
    --bar: #6ea2ff; --track: #2b323e; --good: #67cf8e; --warn: #e9b04a; --bad: #ff8f86; --focus: #9cc0ff;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere;
}
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 1.75rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; font-weight: 600; }
p { margin: .25rem 0; }
a { color: var(--focus); }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--card); padding: .25rem .75rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; }
header .live { margin-left: auto; }
.dim { color: var(--dim); }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.cards { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .75rem 1rem; }
.facts { display: flex; flex-wrap: wrap; gap: 0 1rem; font-size: .9rem; }
progress {
  width: 100%; height: .75rem; border: 0; border-radius: 6px; overflow: hidden; background: var(--track);
  appearance: none; display: block; margin: .4rem 0;
}
progress::-webkit-progress-bar { background: var(--track); }
progress::-webkit-progress-value { background: var(--bar); }
progress::-moz-progress-bar { background: var(--bar); }
summary { cursor: pointer; padding: .35rem 0; color: var(--focus); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--dim); white-space: nowrap; }
.number { text-align: right; }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
td.time { white-space: nowrap; }
@media (max-width: 40rem) {
  body { padding: .75rem; }
  .stack thead { position: absolute; left: -100rem; }
  .stack tr { display: block; border-bottom: 1px solid var(--line); padding: .25rem 0; }
  .stack td { display: inline-block; border: 0; padding: 0 .75rem 0 0; }
  .stack td[data-name]:not(:empty)::after { content: " " attr(data-name); color: var(--dim); }
}
`;
