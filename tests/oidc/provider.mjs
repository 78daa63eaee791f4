// A real OpenID provider for tests: `node provider.mjs FOLDER`, where FOLDER has node_modules.
// It prints `listening URL`, gives JWT access tokens to the client batch, one algorithm for each
// resource (urn:gate:ES256 and the like, audience `gate`; urn:other, audience `other`), and has
// new keys after POST /rotate: tokens are signed with them at once, the ones before go on being
// published, older ones do not. After POST /client?redirect_uri=… people can log in for the client
// gate, by code with PKCE: whoever fills in the page is let in under that name.
import { generateKeyPair } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

const require = createRequire(join(resolve(process.argv[2]), 'package.json'));
const module = await import(pathToFileURL(require.resolve('oidc-provider')));
const Provider = module.default;

const kinds = {
  RS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  EdDSA: ['ed25519', {}],
};

let generation = 0;
async function keys() {
  generation += 1;
  const make = async ([alg, [kind, options]]) => {
    const { privateKey } = await promisify(generateKeyPair)(kind, options);
    const jwk = privateKey.export({ format: 'jwk' });
    return { ...jwk, alg, use: 'sig', kid: `${alg}-${generation}` };
  };
  return Promise.all(Object.entries(kinds).map(make));
}

const HEAD = '<!doctype html><title>Provider</title><link rel=icon href="data:,">';
const PAGE = `${HEAD}`
  + '<form method=post><label>Who <input name=who></label><button>Let me in</button></form>';

function provider(issuer, jwks, redirects) {
  const made = new Provider(issuer, {
    jwks: { keys: jwks },
    cookies: { keys: ['not a secret here'] },
    pkce: { required: () => true },
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    // Who logs in has consented, too.
    loadExistingGrant: async ({ oidc }) => {
      const grant = new oidc.provider.Grant({
        clientId: oidc.client.clientId, accountId: oidc.session.accountId,
      });
      grant.addOIDCScope('openid profile');
      await grant.save();
      return grant;
    },
    clients: [...redirects.map((redirect) => ({
      client_id: 'gate',
      client_secret: 'secret/of the+gate',
      grant_types: ['authorization_code'],
      response_types: ['code'],
      redirect_uris: [redirect],
    })), {
      client_id: 'batch',
      client_secret: 'secret-of-batch',
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
    }],
    scopes: ['read', 'write'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      // The pages that come with it ask for fonts elsewhere.
      rpInitiatedLogout: {
        logoutSource: (ctx, form) => {
          ctx.body = `${HEAD}${form}<button form="op.logoutForm" name=logout value=yes>Yes</button>`;
        },
        postLogoutSuccessSource: (ctx) => { ctx.body = `${HEAD}Bye`; },
      },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => {
          const alg = resource.split(':')[2];
          return {
            audience: resource.startsWith('urn:gate:') ? 'gate' : 'other',
            scope: 'read write',
            accessTokenFormat: 'jwt',
            accessTokenTTL: 600,
            jwt: { sign: { alg: kinds[alg] ? alg : 'RS256' } },
          };
        },
      },
    },
  });
  const serve = made.callback();
  return async (request, response) => {
    if (!request.url.startsWith('/interaction/')) return serve(request, response);
    if (request.method === 'GET') {
      response.setHeader('content-type', 'text/html');
      return response.end(PAGE);
    }
    const body = Buffer.concat(await request.toArray()).toString();
    const accountId = new URLSearchParams(body).get('who');
    return made.interactionFinished(request, response, { login: { accountId } });
  };
}

let answer;
const server = createServer((request, response) => answer(request, response));
server.listen(0, '127.0.0.1', async () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  let current = await keys();
  let published = current;
  let redirects = [];
  let serve = provider(issuer, published, redirects);
  answer = async (request, response) => {
    const url = new URL(request.url, issuer);
    if (request.method !== 'POST' || !['/client', '/rotate'].includes(url.pathname)) {
      return serve(request, response);
    }
    if (url.pathname === '/client') redirects = [url.searchParams.get('redirect_uri')];
    else {
      const next = await keys();
      published = [...next, ...current];
      current = next;
    }
    serve = provider(issuer, published, redirects);
    return response.end();
  };
  console.log(`listening ${issuer}`);
});
