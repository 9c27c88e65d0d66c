// A certified OpenID provider: one client with a secret, one without, and whoever types a name.
import { Provider } from "oidc-provider";

const { ISSUER, PORT } = process.env;
const site = "https://accounts.example";
const client = {
  redirect_uris: [`${site}/sign-in/callback`],
  post_logout_redirect_uris: [`${site}/`],
};

const provider = new Provider(ISSUER, {
  clients: [
    { ...client, client_id: "confidential", client_secret: "a secret: 100% ours" },
    { ...client, client_id: "public", token_endpoint_auth_method: "none" },
  ],
  claims: { email: ["email", "email_verified"], profile: ["name", "company", "roles"] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      name: "Pat Lee",
      email: "pat@partner.example",
      email_verified: id !== "unverified",
      company: "Partner Ltd",
      roles: ["smart-accounts-operator"],
    }),
  }),
});
provider.listen(Number(PORT), "127.0.0.1");
