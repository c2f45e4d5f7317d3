// An OpenID Connect provider on loopback: the real `oidc-provider` with its own pages to sign in and to consent.
//
//     node provider.mjs REDIRECT_ADDRESS
//
// Prints its issuer, and ends when its standard input does. Any password will do for these accounts.
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const ACCOUNTS = {
  mara: { email: "Mara.Lindqvist@fernhill.example", email_verified: true, name: "Mara Lindqvist", groups: ["desk"] },
  ines: { email: "ines.okafor@fernhill.example", email_verified: true, name: "Ines Okafor", groups: ["desk", "it"] },
  pretender: { email: "ines.okafor@fernhill.example", email_verified: false, name: "Pretender", groups: ["desk"] },
  outsider: { email: "out@fernhill.example", email_verified: true, name: "Outsider", groups: ["elsewhere"] },
};

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: "deskhand", client_secret: "between us", redirect_uris: [process.argv[2]] }],
    cookies: { keys: ["of these tests"] },
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "groups"] },
    pkce: { required: () => true },
    findAccount: (_, id) => ACCOUNTS[id] && { accountId: id, claims: () => ({ sub: id, ...ACCOUNTS[id] }) },
  });
  server.on("request", provider.callback());
  console.log(issuer);
});
process.stdin.on("end", () => process.exit()).resume();
