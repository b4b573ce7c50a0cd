// What every test of the real SDK shares: the running server, its admin API, and a `fetch` that sends the SDK's
// calls to that server. The SDK itself is the unmodified package.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createClient, ApiKeyStrategy, AppStrategy, OAuthStrategy } from '@wix/sdk';
import * as accounts from '@wix/auto_sdk_loyalty_accounts';
import * as programs from '@wix/auto_sdk_loyalty_programs';
import * as socialMedia from '@wix/auto_sdk_loyalty_social-media';

export const baseUrl = required('FOLLOWPOINTS_URL');
export const adminKey = required('FOLLOWPOINTS_ADMIN_KEY');
export const modules = { accounts, programs, socialMedia };

export const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
export const timestampPattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** Every call that went to the server, oldest first. */
export const wire = [];

const realFetch = globalThis.fetch;
globalThis.fetch = async (input, init) => {
  const url = new URL(input);
  const response = await realFetch(`${baseUrl}${url.pathname}${url.search}`, init);
  wire.push({
    method: init?.method ?? 'GET',
    path: `${url.pathname}${url.search}`,
    body: init?.body,
    status: response.status,
    requestId: response.headers.get('x-wix-request-id'),
    raw: await response.clone().text(),
  });
  return response;
};

function required(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set: start these tests with tests/clients/run`);
  return value;
}

/** The last answer as it was on the wire, before the SDK renamed anything. */
export function lastBody() {
  return JSON.parse(wire.at(-1).raw);
}

/** One call with the admin key; every success is 200 with a JSON body. */
export async function admin(method, path, { site, body } = {}) {
  const response = await realFetch(`${baseUrl}${path}`, {
    method,
    headers: {
      authorization: adminKey,
      ...(site && { 'wix-site-id': site }),
      ...(body && { 'content-type': 'application/json' }),
    },
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  assert.equal(response.status, 200, `${method} ${path} answered ${response.status}: ${text}`);
  return JSON.parse(text);
}

/** A new site: X gives 50 points, INSTAGRAM 30, TIKTOK none; FACEBOOK and LINKEDIN are switched off. */
export async function newSite({ active = true } = {}) {
  const { site } = await admin('POST', '/admin/v1/sites', { body: { site: { name: 'Nordbrew' } } });
  const settings = await admin('GET', '/admin/v1/social-media-settings', { site: site.id });
  await admin('PATCH', '/admin/v1/social-media-settings', {
    site: site.id,
    body: {
      socialMediaSettings: {
        revision: settings.socialMediaSettings.revision,
        channels: [
          { type: 'FACEBOOK', enabled: false, id: 'nordbrew', points: 10 },
          { type: 'INSTAGRAM', enabled: true, id: 'nordbrew', points: 30 },
          { type: 'LINKEDIN', enabled: false, id: 'nordbrew', points: 20 },
          { type: 'X', enabled: true, id: 'nordbrew', points: 50 },
          { type: 'TIKTOK', enabled: true, id: 'nordbrew', points: 0 },
        ],
      },
    },
  });
  if (active) {
    await admin('POST', '/loyalty-programs/v1/program/activate', { site: site.id, body: {} });
  }
  return site.id;
}

/** A member of the site, known by an external id of its own. */
export async function newMember(site) {
  const externalId = `u-${randomUUID()}`;
  const { member } = await admin('POST', '/admin/v1/members', {
    site,
    body: { member: { externalId, email: 'member@example.com', name: 'Example Member' } },
  });
  return member.id;
}

export async function newOauthClient(site) {
  const { oauthClient } = await admin('POST', '/admin/v1/oauth-clients', {
    site,
    body: { oauthClient: { name: 'Shop front-end', allowedOrigins: ['https://shop.example'] } },
  });
  return oauthClient.id;
}

/** An app with its key pair and secret, installed on the site. */
export async function newApp(site) {
  const { app, appSecret } = await admin('POST', '/admin/v1/apps', { body: { app: { name: 'CRM sync' } } });
  const { appInstance } = await admin('POST', '/admin/v1/app-instances', {
    site,
    body: { appInstance: { appId: app.id } },
  });
  return { ...app, secret: appSecret, instanceId: appInstance.id };
}

export function visitorClient(clientId) {
  return createClient({ modules, auth: OAuthStrategy({ clientId }) });
}

/** A client signed in as the member, by the SDK's external login. */
export async function memberClient(clientId, memberId) {
  const client = visitorClient(clientId);
  client.auth.setTokens(await client.auth.generateVisitorTokens());
  client.auth.setTokens(await client.auth.getMemberTokensForExternalLogin(memberId, adminKey));
  return client;
}

export function apiKeyClient(siteId) {
  return createClient({ modules, auth: ApiKeyStrategy({ apiKey: adminKey, siteId }) });
}

export function appClient(app) {
  return createClient({
    modules,
    auth: AppStrategy({ appId: app.id, appSecret: app.secret, publicKey: app.publicKey, instanceId: app.instanceId }),
  });
}

export function clientWithToken(token) {
  return createClient({ modules, auth: { getAuthHeaders: () => ({ headers: { Authorization: token } }) } });
}

/** The followed channels of the account as an app or an API key reads them. */
export async function listOf(client, accountId) {
  const response = await client.fetchWithAuth(
    `https://www.wixapis.com/loyalty-social-media/v1/followed-channels?accountId=${accountId}`,
  );
  return { status: response.status, body: await response.json() };
}

/** The account as the SDK gives it, from the account as it was on the wire. */
export function accountOfSdk({ id, createdDate, updatedDate, lastActivityDate, ...rest }) {
  return {
    ...rest,
    _id: id,
    _createdDate: new Date(createdDate),
    _updatedDate: new Date(updatedDate),
    ...(lastActivityDate && { lastActivityDate: new Date(lastActivityDate) }),
  };
}

/** What the SDK reports when the server refuses: status, details without the request id, and that id on the wire. */
export async function refusal(call) {
  let error;
  try {
    const answer = await call();
    assert.fail(`the call was expected to be refused, it answered ${JSON.stringify(answer)}`);
  } catch (thrown) {
    if (thrown instanceof assert.AssertionError) {
      throw thrown;
    }
    error = thrown;
  }
  const sent = wire.at(-1);
  assert.match(sent.requestId ?? '', /\S/, 'the answer has no X-Wix-Request-Id');
  assert.equal(error.requestId, sent.requestId);
  const { requestId, ...details } = error.details;
  assert.equal(requestId, sent.requestId);
  return { status: error.status, ...details };
}

/** The refusal with an application error, as the SDK reports it. */
export function refused(status, code, description, data = {}) {
  return { status, applicationError: { code, description, data } };
}
