/** A table of measurements in Markdown; the same row measured again adds to its cell. @module */

export class Table {
  readonly #rows = new Map<string, string[]>();

  add(work: string, what: string, figure: string): void {
    const key = `${work} | ${what}`;
    const row = this.#rows.get(key);
    if (row === undefined) this.#rows.set(key, [figure]);
    else row.push(figure);
    process.stderr.write(`${work}: ${what}: ${figure}\n`);
  }

  toString(): string {
    const lines = [...this.#rows].map(([key, figures]) => `| ${key} | ${figures.join("; ")} |`);
    return ["| work | what | figures |", "|---|---|---|", ...lines, ""].join("\n");
  }
}
