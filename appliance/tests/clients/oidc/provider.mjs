// A certified OpenID provider for the tests of the appliance, on HTTPS with a certificate of the test.
//
//   node provider.mjs CERTIFICATE KEY [PORT]
//
// It prints {"port": N} when it listens, then answers each line of JSON on standard input with one on
// standard output. It ends with its standard input. Users have any password; their groups are below.

import { createServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

// Node 20 has no URL.parse, the one thing that the provider uses of newer ones.
URL.parse ??= (text, base) => (URL.canParse(text, base) ? new URL(text, base) : null);

// Installed by .ci/prepare, away from the source tree.
const require = createRequire(join(process.env.SALLYPORT_CLIENTS, 'oidc', 'package.json'));
// What it complains about is that this is no deployment.
console.info = console.warn = () => {};

const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const { Provider } = await load('oidc-provider');
const { generateKeyPair, exportJWK } = await load('jose');

const [certificate, key, port = '0'] = process.argv.slice(2);
const RESOURCE = 'urn:sallyport:test';
const GROUPS = { alice: ['analysts'], oncall: ['oncall'], root: ['admins'] };

let algorithm = 'RS256';
let generation = 0;
let keys = [];
let handle;
let mode = {};
const requests = [];

async function newKeys() {
  generation += 1;
  const made = [];
  for (const alg of ['RS256', 'ES256', 'EdDSA']) {
    const pair = await generateKeyPair(alg, { extractable: true });
    made.push({ ...(await exportJWK(pair.privateKey)), alg, use: 'sig', kid: `${alg}-${generation}` });
  }
  return made;
}

function build(issuer) {
  const clients = [
    {
      client_id: 'agent',
      client_secret: 'agent-secret-for-tests',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
    {
      client_id: 'cli',
      token_endpoint_auth_method: 'none',
      application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      redirect_uris: ['http://127.0.0.1/callback'],
      response_types: ['code'],
    },
    ...(mode.clients ?? []),
  ];
  const provider = new Provider(issuer, {
    clients,
    jwks: { keys },
    cookies: { keys: ['only for tests'] },
    scopes: ['openid', 'offline_access', 'db'],
    claims: { openid: ['sub', 'groups', 'name'] },
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
    findAccount: (_, sub) => ({
      accountId: sub,
      claims: () => ({ sub, name: sub, groups: GROUPS[sub] ?? [] }),
    }),
    conformIdTokenClaims: false,
    ttl: { AccessToken: () => mode.ttl ?? 300, ClientCredentials: 300, IdToken: 300, DeviceCode: 120 },
    issueRefreshToken: (_, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: () => false,
    extraTokenClaims: (_, token) => ({
      groups: token.accountId ? GROUPS[token.accountId] ?? [] : ['analysts'],
      ...(token.accountId ? { name: token.accountId } : {}),
      ...(mode.claims ?? {}),
    }),
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'db',
          audience: 'sallyport',
          accessTokenFormat: 'jwt',
          accessTokenTTL: mode.ttl ?? 300,
          jwt: { sign: { alg: algorithm } },
        }),
      },
    },
  });
  return provider.callback();
}

const sockets = new Set();
const options = { cert: readFileSync(certificate), key: readFileSync(key) };
const server = createServer(options, async (request, response) => {
  requests.push(`${request.method} ${request.url.split('?')[0]}`);
  const at = (path) => request.url.split('?')[0] === path;
  const document = at('/.well-known/openid-configuration');
  const jwks = at('/jwks');
  if (mode.silent && (document || jwks)) return;
  if (mode.redirect && jwks) {
    response.writeHead(302, { location: mode.redirect }).end();
    return;
  }
  if (mode.oversized && jwks) {
    response.writeHead(200, { 'content-type': 'application/json' });
    const piece = Buffer.alloc(64 * 1024, ' ');
    // More than anybody reads: until the other side hangs up.
    const send = () => { while (response.write(piece)); };
    response.on('drain', send).on('error', () => {});
    send();
    return;
  }
  if (mode.status && jwks) {
    response.writeHead(mode.status).end('{}');
    return;
  }
  if (mode.mismatch && document) {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ issuer: `${issuer}/`, jwks_uri: `${issuer}/jwks` }));
    return;
  }
  if (mode.cache && jwks) {
    const write = response.writeHead.bind(response);
    response.writeHead = (...all) => { response.setHeader('cache-control', mode.cache); return write(...all); };
  }
  handle(request, response);
});
server.on('connection', (socket) => {
  sockets.add(socket);
  socket.on('close', () => sockets.delete(socket));
});
const listen = (at) => new Promise((done) => { server.listen(Number(at), '127.0.0.1', done); });

await listen(port);
const own = server.address().port;
const issuer = `https://127.0.0.1:${own}`;
keys = await newKeys();
handle = build(issuer);

// One request, with the certificate that the test made.
process.env.NODE_NO_WARNINGS = '1';
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
process.removeAllListeners('warning');

async function clientCredentials(client = 'agent', secret = 'agent-secret-for-tests') {
  const answer = await fetch(`${issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${client}:${secret}`).toString('base64')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'db' }),
  });
  return answer.json();
}

// What a person does in a browser, without one: follows redirects with its cookies, and fills in
// each form until there is none, or until it is sent back to who asked.
async function browse(start, login) {
  const jar = new Map();
  let url = new URL(start);
  let body;
  for (let step = 0; step < 30; step += 1) {
    const own = url.origin === issuer;
    const answer = await fetch(url, {
      redirect: 'manual',
      method: body ? 'POST' : 'GET',
      body,
      headers: own ? { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; ') } : {},
    });
    for (const cookie of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      if (value) jar.set(name, value); else jar.delete(name);
    }
    const page = await answer.text();
    if (!own) return { end: url.href, status: answer.status, page };
    const location = answer.headers.get('location');
    body = undefined;
    if (location) {
      url = new URL(location, url);
      continue;
    }
    const form = /<form[^>]*action="([^"]+)"[^>]*>([\s\S]*?)<\/form>/.exec(page);
    if (!form) return { end: url.href, status: answer.status, page };
    body = new URLSearchParams();
    for (const [input] of form[2].matchAll(/<input[^>]*>/g)) {
      const attribute = (name) => new RegExp(`\\b${name}="([^"]*)"`).exec(input)?.[1];
      body.set(attribute('name'), attribute('value') ?? '');
    }
    if (body.has('login')) body.set('login', login);
    if (body.has('password')) body.set('password', 'any');
    url = new URL(form[1].replaceAll('&amp;', '&'), url);
  }
  throw new Error('it goes on for ever');
}

const commands = {
  async token({ client, secret }) { return clientCredentials(client, secret); },
  async sign({ with: alg }) { algorithm = alg; handle = build(issuer); return {}; },
  // New keys, with or without the old ones beside them.
  async rotate({ keep }) {
    const before = keep ? keys : [];
    keys = [...(await newKeys()), ...before];
    handle = build(issuer);
    return { kids: keys.map((one) => one.kid) };
  },
  // Only the newest keys stay.
  async retire() { keys = keys.slice(0, 3); handle = build(issuer); return {}; },
  async mode(wanted) { mode = wanted.mode; handle = build(issuer); return {}; },
  async down() {
    const closed = new Promise((done) => { server.close(done); });
    for (const socket of sockets) socket.destroy();
    await closed;
    return {};
  },
  async up() { await listen(own); return {}; },
  async requests() { return { requests: requests.splice(0) }; },
  async browse({ url, login }) { return browse(url, login); },
};

process.stdout.write(`${JSON.stringify({ port: own })}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  let answer;
  try {
    answer = await commands[question.command](question);
  } catch (error) {
    answer = { error: `${error}${error.cause ? `: ${error.cause}` : ''}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
