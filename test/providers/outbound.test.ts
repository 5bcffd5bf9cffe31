// Requests to URLs that a tenant has chosen: what they may reach, and what comes back.
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { OutboundRefusedError, sendOutbound, type OutboundRequest } from "../../src/providers/outbound.ts";
import { isPublicAddress } from "../../src/providers/publicAddress.ts";
import { isSlackWebhook } from "../../src/providers/slack.ts";

const post = (more: Partial<OutboundRequest> = {}): OutboundRequest => ({
  method: "POST",
  headers: {},
  body: "{}",
  signal: new AbortController().signal,
  ...more,
});

/** A server of this machine, which must not be reached; counts its requests. */
async function startInternal(listener: RequestListener): Promise<{ url: string; port: number; count: () => number }> {
  let requests = 0;
  const server = createServer((request, response) => {
    requests++;
    listener(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, resolve));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, port, count: () => requests };
}

describe("an address", () => {
  it.each([
    "1.1.1.1",
    "34.226.3.1",
    "172.15.0.1",
    "172.32.0.1",
    "100.63.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00::1",
  ])("%s is public", (address) => expect(isPublicAddress(address)).toBe(true));

  it.each([
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.0.1",
    "198.18.0.1",
    "203.0.113.5",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:1.1.1.1",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001::1",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "ff02::1",
    "localhost",
    "",
    "010.0.0.1",
  ])("%j is not public", (address) => expect(isPublicAddress(address)).toBe(false));
});

describe("a request", () => {
  it.each([
    "http://hooks.slack.com/",
    "https://hooks.slack.com:8443/",
    "https://user@hooks.slack.com/",
    "https://:secret@hooks.slack.com/",
    "https://127.0.0.1/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://127.0.0.1./",
    "https://１２７.0.0.1/",
    "https://0/",
    "https://[::]/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://169.254.169.254/latest/meta-data/",
    "https://localhost/",
  ])("to %s is refused before anything is sent", async (url) => {
    await expect(sendOutbound(new URL(url), post())).rejects.toThrow(OutboundRefusedError);
  });

  it("is refused if one of the name's addresses is not public, and says nothing of the address", async () => {
    const resolve = async () => [
      { address: "1.1.1.1", family: 4 },
      { address: "10.9.8.7", family: 4 },
    ];
    const refused = sendOutbound(new URL("https://rebind.example/"), post({ resolve }));
    await expect(refused).rejects.toThrow(/^rebind\.example does not lead to a public address$/);
    const nowhere = sendOutbound(new URL("https://nowhere.example/"), post({ resolve: async () => [] }));
    await expect(nowhere).rejects.toThrow(OutboundRefusedError);
  });

  it("connects to the address that was checked: the name is resolved once", async () => {
    const internal = await startInternal((_request, response) => response.end("INTERNAL-CANARY"));
    let asked = 0;
    // A name server that answers differently the second time.
    const resolve = async () => [{ address: asked++ === 0 ? "2001:500:88:200::8" : "127.0.0.1", family: 6 }];
    const sent = sendOutbound(new URL("https://rebind.example/"), post({ resolve, timeoutMs: 200 }));
    await expect(sent).rejects.not.toThrow(OutboundRefusedError);
    expect(asked).toBe(1);
    expect(internal.count()).toBe(0);
  });

  it("reaches an address of this machine only if the operator named the URL", async () => {
    const internal = await startInternal((_request, response) => response.end("ok"));
    await expect(sendOutbound(new URL(internal.url), post())).rejects.toThrow(OutboundRefusedError);
    expect(internal.count()).toBe(0);
    expect(await sendOutbound(new URL(internal.url), post({ isOperators: true }))).toMatchObject({
      status: 200,
      body: "ok",
    });
  });

  it("does not follow a redirect", async () => {
    const target = await startInternal((_request, response) => response.end("INTERNAL-CANARY"));
    const first = await startInternal((_request, response) => response.writeHead(307, { location: target.url }).end());
    expect(await sendOutbound(new URL(first.url), post({ isOperators: true }))).toMatchObject({
      status: 307,
      body: "",
    });
    expect(target.count()).toBe(0);
  });

  it("reads no more of the answer than the limit", async () => {
    const endless = await startInternal((_request, response) => {
      const more = (): void => {
        while (response.write("x".repeat(10_000)));
      };
      response.on("drain", more);
      more();
    });
    const answer = await sendOutbound(new URL(endless.url), post({ isOperators: true, maxBytes: 15_000 }));
    expect(answer.body).toHaveLength(15_000);
  });

  it.each(["headers", "rest of the body"])("ends at the time limit if the %s do not come", async (late) => {
    const slow = await startInternal((_request, response) => {
      if (late !== "headers") response.write("o");
    });
    const sent = sendOutbound(new URL(slow.url), post({ isOperators: true, timeoutMs: 100 }));
    await expect(sent).rejects.toMatchObject({ name: expect.stringMatching(/^(Abort|Timeout)Error$/) });
  });

  it("ends at the time limit if the name is not resolved", async () => {
    const resolve = () => new Promise<never>(() => {});
    const sent = sendOutbound(new URL("https://slow.example/"), post({ resolve, timeoutMs: 50 }));
    await expect(sent).rejects.toMatchObject({ name: "TimeoutError" });
  });
});

describe("a Slack webhook", () => {
  it.each([
    "https://hooks.slack.com/services/x",
    "https://hooks.slack-gov.com/services/x",
    "https://hooks.slack.com:443/services/x",
  ])("is %s", (url) => expect(isSlackWebhook(url)).toBe(true));

  it.each([
    "",
    "hooks.slack.com/services/x",
    "http://hooks.slack.com/services/x",
    "https://hooks.slack.com",
    "https://hooks.slack.com:8443/services/x",
    `https://${"user:pass"}@hooks.slack.com/services/x`,
    "https://hooks.slack.com/services/x?to=elsewhere",
    "https://hooks.slack.com/services/x#y",
    "https://hooks.slack.com.evil.example/services/x",
    "https://evil.example/hooks.slack.com",
    "https://hooks.slack.com@evil.example/services/x",
    "https://slack.com/services/x",
    "https://localhost:18099/latest/meta-data/",
    "https://169.254.169.254/latest/meta-data/",
  ])("is not %j", (url) => expect(isSlackWebhook(url)).toBe(false));
});
