// Tokens through the real SDK: issue, external login, renewal, app tokens.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { AppStrategy, createClient } from '@wix/sdk';
import {
  adminKey, appClient, clientWithToken, lastBody, listOf, memberClient, modules, newApp, newMember, newOauthClient,
  newSite, refusal, visitorClient, wire,
} from './support.mjs';

let site, clientId;
before(async () => {
  site = await newSite();
  clientId = await newOauthClient(site);
});

/** Lets the SDK believe that its access token has run out: it renews before the next call. */
function expire(client) {
  const { accessToken, refreshToken } = client.auth.getTokens();
  client.auth.setTokens({ accessToken: { value: accessToken.value, expiresAt: 0 }, refreshToken });
}

test('a token answer carries exactly the documented fields', async () => {
  const client = visitorClient(clientId);
  const tokens = await client.auth.generateVisitorTokens();
  assert.deepEqual(JSON.parse(wire.at(-1).body), { clientId, grantType: 'anonymous' });
  const sent = lastBody();
  assert.deepEqual(sent, {
    access_token: tokens.accessToken.value,
    refresh_token: tokens.refreshToken.value,
    token_type: 'Bearer',
    expires_in: 14400,
  });
  assert.equal(tokens.refreshToken.role, 'visitor');
});

test('an unknown client gets no token', async () => {
  const client = visitorClient('01890000-0000-7000-8000-000000000000');
  await assert.rejects(client.auth.generateVisitorTokens(), /Failed to fetch tokens from OAuth API/);
  assert.deepEqual([wire.at(-1).status, lastBody().error], [401, 'invalid_client']);
});

test('an external login needs a good API key', async () => {
  const memberId = await newMember(site);
  const client = visitorClient(clientId);
  client.auth.setTokens(await client.auth.generateVisitorTokens());
  await assert.rejects(
    client.auth.getMemberTokensForExternalLogin(memberId, `${adminKey}x`),
    /Failed to fetch tokens from OAuth API/,
  );
  assert.equal([400, 401, 403].includes(wire.at(-1).status), true, `status ${wire.at(-1).status}`);
  assert.equal(lastBody().access_token, undefined);
});

test('a member stays signed in over two renewals in a row', async () => {
  const client = await memberClient(clientId, await newMember(site));
  const followed = await client.socialMedia.createFollowedChannel({ channel: 'X' });
  const issued = client.auth.getTokens();
  const seen = [issued.accessToken.value];
  for (let round = 0; round < 2; round += 1) {
    expire(client);
    const start = wire.length;
    assert.deepEqual(await client.socialMedia.listFollowedChannels(), { followedChannels: [followed] });
    assert.deepEqual(wire.slice(start).map(({ path, status }) => [path, status]), [
      ['/oauth2/token', 200],
      ['/loyalty-social-media/v1/followed-channels', 200],
    ]);
    assert.deepEqual(JSON.parse(wire[start].body), {
      clientId,
      refreshToken: issued.refreshToken.value,
      grantType: 'refresh_token',
    });
    assert.equal(JSON.parse(wire[start].raw).expires_in, 14400);
    const renewed = client.auth.getTokens();
    assert.equal(renewed.accessToken.expiresAt > Math.floor(Date.now() / 1000) + 14000, true);
    assert.deepEqual(renewed.refreshToken, issued.refreshToken);
    assert.equal(seen.includes(renewed.accessToken.value), false);
    seen.push(renewed.accessToken.value);
    assert.equal(client.auth.loggedIn(), true);
  }
});

test('a visitor stays the same visitor over two renewals in a row', async () => {
  const client = visitorClient(clientId);
  await client.socialMedia.listFollowedChannels();
  for (let round = 0; round < 2; round += 1) {
    expire(client);
    const start = wire.length;
    assert.deepEqual(await client.socialMedia.listFollowedChannels(), { followedChannels: [] });
    assert.deepEqual(wire.slice(start).map(({ path, status }) => [path, status]), [
      ['/oauth2/token', 200],
      ['/loyalty-social-media/v1/followed-channels', 200],
    ]);
    assert.equal(JSON.parse(wire[start].body).grantType, 'refresh_token');
  }
});

test('a refused refresh token turns the member into a visitor', async () => {
  const client = await memberClient(clientId, await newMember(site));
  await client.socialMedia.createFollowedChannel({ channel: 'X' });
  client.auth.setTokens({
    accessToken: { value: 'spent', expiresAt: 0 },
    refreshToken: { value: 'not-a-refresh-token', role: 'member' },
  });
  const start = wire.length;
  assert.deepEqual(await client.socialMedia.listFollowedChannels(), { followedChannels: [] });
  assert.deepEqual(wire.slice(start).map(({ path, status }) => [path, status]), [
    ['/oauth2/token', 400],
    ['/oauth2/token', 200],
    ['/loyalty-social-media/v1/followed-channels', 200],
  ]);
  assert.equal(JSON.parse(wire[start].raw).error, 'invalid_grant');
  assert.equal(client.auth.loggedIn(), false);
});

test('a refresh token belongs to its client', async () => {
  const owner = await memberClient(clientId, await newMember(site));
  const thief = visitorClient(await newOauthClient(site));
  await assert.rejects(thief.auth.renewToken(owner.auth.getTokens().refreshToken), /Failed to fetch tokens/);
  assert.deepEqual([wire.at(-1).status, lastBody().error], [400, 'invalid_grant']);
});

test('a refresh token is no access token, and an access token renews nothing', async () => {
  for (const client of [visitorClient(clientId), await memberClient(clientId, await newMember(site))]) {
    await client.socialMedia.listFollowedChannels();
    const { accessToken, refreshToken } = client.auth.getTokens();
    const seen = await refusal(() => clientWithToken(refreshToken.value).socialMedia.listFollowedChannels());
    assert.deepEqual([seen.status, seen.applicationError.code], [401, 'UNAUTHENTICATED']);
    const misused = { value: accessToken.value, role: 'member' };
    await assert.rejects(client.auth.renewToken(misused), /Failed to fetch tokens from OAuth API/);
    assert.deepEqual([wire.at(-1).status, lastBody().error], [400, 'invalid_grant']);
  }
});

test('an app gets its token for the instance and can elevate with it', async () => {
  const app = await newApp(site);
  const member = await memberClient(clientId, await newMember(site));
  const { accountId } = await member.socialMedia.createFollowedChannel({ channel: 'X' });
  const client = appClient(app);
  const { headers } = await client.auth.getAuthHeaders();
  assert.deepEqual(lastBody(), { access_token: headers.Authorization, token_type: 'Bearer', expires_in: 14400 });
  const elevated = await createClient({
    modules,
    auth: AppStrategy({ appId: app.id, appSecret: app.secret, accessToken: headers.Authorization }),
  }).auth.elevated();
  assert.equal(wire.at(-1).path, '/oauth2/token-info');
  const info = lastBody();
  assert.deepEqual(
    [info.active, info.subjectType, info.clientId, info.instanceId, info.siteId],
    [true, 'APP', app.id, app.instanceId, site],
  );
  assert.equal((await listOf(createClient({ modules, auth: elevated }), accountId)).status, 200);
});

test('an app with a wrong secret gets no token', async () => {
  const app = await newApp(site);
  const client = appClient({ ...app, secret: `${app.secret}x` });
  await assert.rejects(client.auth.getAuthHeaders(), /Unexpected status code from Wix OAuth API: 401/);
  assert.equal(lastBody().error, 'invalid_client');
});

test('an app gets no token for an instance of another app', async () => {
  const app = await newApp(site);
  const other = await newApp(site);
  const client = appClient({ ...app, instanceId: other.instanceId });
  await assert.rejects(client.auth.getAuthHeaders(), /Unexpected status code from Wix OAuth API: 400/);
  assert.equal(lastBody().error, 'invalid_grant');
});
