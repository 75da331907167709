import fc from "fast-check";
import { expect, test } from "vitest";
import { parseFilters } from "./filters.ts";

const OBJECT: Readonly<Record<string, string>> = {
  name: "default/7/sha256:ab",
  parent: "",
  kind: "active",
  "labels.l": "1",
  "labels.empty": "",
  "labels.containerd.io/gc.root": "x y",
  'labels.a"b': 'c\\d"e',
};
const fields = (path: readonly string[]): string | undefined => OBJECT[path.join(".")];

test.each([
  [[], true],
  [[""], true],
  [["kind==active"], true],
  [["kind==view"], false],
  [["kind!=view"], true],
  [["kind == active"], true],
  [["kind==active,labels.l==1"], true],
  [["kind==active,labels.l==2"], false],
  [["kind==view", "labels.l"], true],
  [["labels.l"], true],
  [["labels.empty"], true],
  [["labels.none"], false],
  [["labels.none!=x"], true],
  [["labels.none==x"], false],
  [['parent==""'], true],
  [['parent!=""'], false],
  [["name==default/7/sha256:ab"], true],
  [['name=="default/7/sha256:ab",parent==""'], true],
  [['labels."containerd.io/gc.root"=="x y"'], true],
  [['labels."containerd.io/gc.root"==x'], false],
  [['labels."a\\"b"=="c\\\\d\\"e"'], true],
  [['labels."a\\x22b"'], true],
  [['kind=="\\u0061ctive"'], true],
  [['kind=="\\141ctive"'], true],
  [["name~=^default/[0-9]+/"], true],
  [["name~=/sha256:[a-f]+$/"], true],
  [["name~=|^def|"], true],
  [['name~="^nothing"'], false],
  [['name~="("'], false],
] as const)("parseFilters(%j) says %s", (filters, answer) => {
  expect(parseFilters(filters)(fields)).toBe(answer);
});

test.each([
  "kind=!x",
  "kind==",
  "==x",
  "kind==a b",
  "a..b",
  'labels."x',
  "kind==a,",
  ",kind",
  '"\\q"==x',
  "a.==b",
])("parseFilters() refuses %j", (filter) => {
  expect(() => parseFilters([filter])).toThrow(expect.objectContaining({ code: "usage" }));
});

test("parseFilters() finds any value that is quoted", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (value) => {
      fc.pre(!value.includes("\n"));
      const quoted = `"${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
      expect(parseFilters([`labels.x==${quoted}`])(() => value)).toBe(true);
      expect(parseFilters([`labels.x!=${quoted}`])(() => value)).toBe(false);
    }),
  );
});

test("parseFilters() either parses or says usage, whatever it is given", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        parseFilters([text])(fields);
      } catch (error) {
        expect(error).toMatchObject({ code: "usage" });
      }
    }),
  );
});
