// An OAuth 2.1 and OpenID Connect server for tests, on the package oidc-provider.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { Provider, errors } from 'oidc-provider';
import { enableTokenExchange } from './token-exchange.mjs';

const port = Number(process.env.PORT);
const issuer = `http://127.0.0.1:${port}`;
const lifetime = Number(process.env.ACCESS_TOKEN_SECONDS ?? 60);
const redirects = (process.env.REDIRECTS ?? '').split(' ').filter(Boolean);
const jwk = (type, options, extra) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), use: 'sig', ...extra });
const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange';

async function resourceInfo(ctx, resource) {
  if (!resource.startsWith('http://127.0.0.1:')) throw new errors.InvalidTarget();
  return {
    scope: 'mcp:read mcp:write', audience: resource, accessTokenTTL: lifetime,
    accessTokenFormat: resource.endsWith('/opaque') ? 'opaque' : 'jwt', jwt: { sign: { alg: 'ES256' } },
  };
}

const provider = new Provider(issuer, {
  jwks: { keys: [
    jwk('ec', { namedCurve: 'P-256' }, { alg: 'ES256', kid: 'es-1' }),
    jwk('rsa', { modulusLength: 2048 }, { alg: 'RS256', kid: 'rs-1' }),
  ] },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  clients: [
    { client_id: 'gw', client_secret: 'gw-secret', redirect_uris: redirects,
      grant_types: ['authorization_code', 'refresh_token', 'client_credentials', exchange] },
    { client_id: 'device', token_endpoint_auth_method: 'none', application_type: 'native',
      redirect_uris: ['http://127.0.0.1/none'],
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'] },
    { client_id: 'rs', client_secret: 'rs-secret', redirect_uris: [], response_types: [], grant_types: [] },
  ],
  scopes: ['openid', 'offline_access', 'mcp:read', 'mcp:write'],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none'],
  ttl: { AccessToken: lifetime, ClientCredentials: lifetime, RefreshToken: 3600, Session: 3600, Grant: 3600,
    Interaction: 600, IdToken: 600, DeviceCode: 600 },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    // Proofs of possession have to contain the nonce of this server (RFC 9449, section 8).
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    registration: { enabled: true },
    deviceFlow: { enabled: true },
    clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
    resourceIndicators: {
      enabled: true,
      defaultResource: async (ctx, client, oneOf) => oneOf ?? `${issuer}/none`,
      useGrantedResource: async () => true,
      getResourceServerInfo: resourceInfo,
    },
  },
  // Client metadata documents have to be at a public https address: one such name stands for the gateway under test.
  fetch: (url, options) => {
    const own = new URL(url);
    if (own.hostname !== 'client.test') return globalThis.fetch(url, options);
    const { dispatcher, ...rest } = options;
    return globalThis.fetch(`${process.env.CLIENT_BASE}${own.pathname}`, rest);
  },
  extraTokenClaims: async (ctx, token) => token.extra,
  findAccount: async (ctx, id) => ({
    accountId: id, claims: async () => ({ sub: id, email: `${id}@example.test` }) }),
});
enableTokenExchange(provider, issuer, resourceInfo);
// How often each grant was asked for, for tests that count.
const asked = {};
provider.use(async (ctx, next) => {
  if (ctx.path === '/asked') { ctx.body = asked; return; }
  await next();
  const grant = ctx.oidc?.params?.grant_type;
  if (grant) asked[grant] = (asked[grant] ?? 0) + 1;
});
provider.on('server_error', (ctx, error) => console.error('server_error', error));
provider.listen(port, '127.0.0.1', () => console.log(`issuer ${issuer}`));
