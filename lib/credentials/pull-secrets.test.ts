import { expect, test } from "vitest";
import { PullSecrets } from "./pull-secrets.ts";

const IMAGE = "registry.example:5000/team/app:1";
const NAME = ["registry.example:5000", { repository: "team/app" }] as const;
const login = (password: string) => ({ username: "me", password });

test("PullSecrets answers for every tag of a repository, labels first, then the latest pull", async () => {
  const secrets = new PullSecrets();
  secrets.remember("pull", IMAGE, login("old"));
  secrets.remember("pull", "registry.example:5000/team/app:2", login("new"));
  expect(await secrets.source(...NAME)).toEqual(login("new"));
  secrets.remember("label", IMAGE, login("label"));
  expect(await secrets.source(...NAME)).toEqual(login("label"));
  const refused = [login("label"), login("new")];
  expect(await secrets.source(NAME[0], { ...NAME[1], refused })).toEqual(login("old"));
  expect(await secrets.source(NAME[0], { repository: "other" })).toBeUndefined();
});

test("PullSecrets forgets what pulled nothing, and the oldest of too many", async () => {
  const secrets = new PullSecrets();
  for (const word of ["1", "2", "3", "4", "5"]) secrets.remember("pull", IMAGE, login(word));
  expect(secrets.export()).toHaveLength(4);
  secrets.forget("pull", IMAGE, login("5"));
  expect(await secrets.source(...NAME)).toEqual(login("4"));
});

test("PullSecrets that inherit answer when they have", async () => {
  const secrets = new PullSecrets({ heir: true });
  const answer = secrets.source(...NAME);
  secrets.import([{ image: "registry.example:5000/team/app", origin: "pull", credentials: login("kept") }]);
  expect(await answer).toEqual(login("kept"));
});

test("PullSecrets tells of changes, and passes what it knows on", async () => {
  const [old, young] = [new PullSecrets(), new PullSecrets()];
  let changes = 0;
  old.onChange(() => changes++);
  old.remember("pull", IMAGE, login("a"));
  old.remember("pull", IMAGE, login("a"));
  old.remember("label", IMAGE, { identityToken: "t" });
  expect(changes).toBe(2);
  young.remember("pull", IMAGE, login("newer"));
  young.import(JSON.parse(JSON.stringify(old.export())));
  young.import([null, {}, { image: "x", origin: "pull", credentials: { username: 1 } }, "text"]);
  young.import("nothing");
  expect(young.export().map(({ credentials }) => credentials)).toEqual([
    login("newer"),
    { identityToken: "t" },
    login("a"),
  ]);
});
