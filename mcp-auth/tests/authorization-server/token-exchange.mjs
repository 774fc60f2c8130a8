// RFC 8693 for server.mjs: an access token that was issued there becomes one for another resource.
import { createRemoteJWKSet, jwtVerify } from 'jose';

const accessToken = 'urn:ietf:params:oauth:token-type:access_token';

export function enableTokenExchange(provider, issuer, resourceInfo) {
  const jwks = createRemoteJWKSet(new URL(`${issuer}/jwks`));
  provider.registerGrantType('urn:ietf:params:oauth:grant-type:token-exchange', async (ctx) => {
    const { client, params } = ctx.oidc;
    const bad = (error, description) => {
      ctx.status = 400;
      ctx.body = { error, error_description: description };
    };
    if (params.subject_token_type !== accessToken) return bad('invalid_request', 'subject_token_type');
    let subject;
    try {
      ({ payload: subject } = await jwtVerify(params.subject_token, jwks, { issuer }));
    } catch {
      return bad('invalid_request', 'subject_token');
    }
    const resource = params.resource;
    if (!resource) return bad('invalid_target', 'resource');
    const info = await resourceInfo(ctx, resource, client);
    const held = (subject.scope ?? '').split(' ');
    const scope = (params.scope ?? subject.scope ?? '').split(' ').filter((one) => held.includes(one)).join(' ');
    const token = new provider.AccessToken({ client, accountId: subject.sub, scope, gty: 'token_exchange',
      grantId: undefined, extra: { act: { sub: client.clientId } } });
    token.resourceServer = new provider.ResourceServer(resource, info);
    ctx.body = { access_token: await token.save(), issued_token_type: accessToken, token_type: 'Bearer',
      expires_in: token.expiration, scope };
  }, ['subject_token', 'subject_token_type', 'resource', 'audience', 'scope', 'requested_token_type',
    'actor_token', 'actor_token_type']);
}
