import { expect, test } from "vitest";
import { NydusError } from "../base/error.ts";
import { streamOf } from "../content/verified.ts";
import { type HttpRequest, isAt, isLoopback, READ, type Send } from "./http.ts";
import { type SchemeOptions, schemesFor, withScheme } from "./scheme.ts";

test.each([
  ["localhost", true],
  ["localhost:5000", true],
  ["127.0.0.1:5000", true],
  ["127.8.9.1", true],
  ["[::1]:5000", true],
  ["127.0.0.1.example", false],
  ["localhost.example", false],
  ["10.0.0.1:5000", false],
])("isLoopback() of %s is %s", (host, loopback) => {
  expect(isLoopback(host)).toBe(loopback);
});

test.each([
  ["https://r.example/x", "r.example", true],
  ["https://r.example/x", "r.example:443", true],
  ["http://r.example:5000/x", "r.example:5000", true],
  ["https://r.example:444/x", "r.example", false],
  ["https://s.example/x", "r.example", false],
])("isAt() of %s and %s is %s", (url, host, at) => {
  expect(isAt(new URL(url), host)).toBe(at);
});

test.each<[string, SchemeOptions, string[]]>([
  ["r.example", {}, ["https:"]],
  ["r.example", { plainHttp: true }, ["http:"]],
  ["r.example", { insecure: true }, ["https:", "http:"]],
  ["localhost:5000", {}, ["http:", "https:"]],
  ["localhost:443", {}, ["https:"]],
])("schemesFor(%s, %j)", (host, options, schemes) => {
  expect(schemesFor(host, options)).toEqual(schemes);
});

const REQUEST: HttpRequest = {
  method: "GET",
  url: new URL("https://localhost:5000/v2/"),
  action: "read",
  access: READ,
};

/** Answers to one scheme; the other gets what a server of the first would do. */
function server(speaks: "http:" | "https:", other: "400" | "broke off"): { send: Send; asked: string[] } {
  const asked: string[] = [];
  const send: Send = async ({ url }) => {
    asked.push(url.protocol);
    const right = url.protocol === speaks;
    if (!right && other === "broke off")
      throw new NydusError("unavailable", "Cannot read: it broke off the connection");
    const text = right ? "hello" : "Client sent an HTTP request to an HTTPS server.";
    return {
      status: right ? 200 : 400,
      headers: new Headers(),
      body: streamOf(new TextEncoder().encode(text)),
      discard: async () => {},
    };
  };
  return { send, asked };
}

test.each(["400", "broke off"] as const)(
  "withScheme() finds out that a loopback port speaks TLS (%s), and remembers it",
  async (other) => {
    const { send, asked } = server("https:", other);
    const schemed = withScheme(send, "localhost:5000", {});
    for (let i = 0; i < 2; i++) expect((await schemed(REQUEST)).status).toBe(200);
    expect(asked).toEqual(["http:", "https:", "https:"]);
  },
);

test("withScheme() stays with the scheme that answered", async () => {
  const { send, asked } = server("http:", "broke off");
  const schemed = withScheme(send, "localhost:5000", {});
  for (let i = 0; i < 2; i++) await schemed(REQUEST);
  expect(asked).toEqual(["http:", "http:"]);
});

test("withScheme() never goes to http without being told to", async () => {
  const { send, asked } = server("http:", "broke off");
  await expect(withScheme(send, "r.example", {})(REQUEST)).rejects.toMatchObject({ code: "unavailable" });
  expect(asked).toEqual(["https:"]);
});

test("withScheme() gives another status 400 on with its body", async () => {
  const send: Send = async () => ({
    status: 400,
    headers: new Headers(),
    body: streamOf(new TextEncoder().encode("no")),
    discard: async () => {},
  });
  const answer = await withScheme(send, "localhost:5000", {})(REQUEST);
  expect(await new Response(answer.body).text()).toBe("no");
});

test("withScheme() reports the first failure when neither works", async () => {
  const send: Send = async ({ url }) => {
    throw new NydusError("unavailable", `Cannot read: ${url.protocol} broke off the connection`);
  };
  await expect(withScheme(send, "localhost:5000", {})(REQUEST)).rejects.toThrow("http: broke off");
});
