/** A certificate authority for one test, made with the `openssl` program. @module */
import { writeFile } from "node:fs/promises";
import { run } from "./process.ts";

export interface Pair {
  /** PEM texts. */
  readonly cert: string;
  readonly key: string;
}

const EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"] as const;

/** @param directory holds the authority's files */
export async function makeAuthority(
  directory: string,
): Promise<Pair & { issue(name: string, extensions: string): Promise<Pair> }> {
  const [ca, caKey] = [`${directory}/ca.crt`, `${directory}/ca.key`];
  await run("openssl", [
    "req",
    "-x509",
    ...EC,
    "-days",
    "2",
    "-subj",
    "/CN=test-ca",
    "-keyout",
    caKey,
    "-out",
    ca,
  ]);
  return {
    cert: await Bun.file(ca).text(),
    key: await Bun.file(caKey).text(),
    async issue(name, extensions) {
      const at = (kind: string): string => `${directory}/${name}.${kind}`;
      await run("openssl", ["req", ...EC, "-subj", `/CN=${name}`, "-keyout", at("key"), "-out", at("csr")]);
      await writeFile(at("ext"), extensions);
      const signer = ["-CA", ca, "-CAkey", caKey, "-CAcreateserial", "-days", "2", "-extfile", at("ext")];
      await run("openssl", ["x509", "-req", "-in", at("csr"), ...signer, "-out", at("crt")]);
      return { cert: await Bun.file(at("crt")).text(), key: await Bun.file(at("key")).text() };
    },
  };
}
