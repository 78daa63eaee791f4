// A real OpenID provider for tests: `node provider.mjs FOLDER`, where FOLDER has node_modules.
// It prints `listening URL`, gives JWT access tokens to the client batch, one algorithm for each
// resource (urn:gate:ES256 and the like, audience `gate`; urn:other, audience `other`), and has
// new keys after POST /rotate: tokens are signed with them at once, the ones before go on being
// published, older ones do not.
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

function provider(issuer, jwks) {
  const made = new Provider(issuer, {
    jwks: { keys: jwks },
    clients: [{
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
  return made.callback();
}

let answer;
const server = createServer((request, response) => answer(request, response));
server.listen(0, '127.0.0.1', async () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  let current = await keys();
  let serve = provider(issuer, current);
  answer = async (request, response) => {
    if (request.url !== '/rotate') return serve(request, response);
    const next = await keys();
    serve = provider(issuer, [...next, ...current]);
    current = next;
    return response.end();
  };
  console.log(`listening ${issuer}`);
});
