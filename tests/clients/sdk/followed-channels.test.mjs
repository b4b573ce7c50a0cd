// List and create through the real SDK, as every kind of caller.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { createClient, ApiKeyStrategy } from '@wix/sdk';
import {
  adminKey, apiKeyClient, appClient, lastBody, listOf, memberClient, modules, newApp, newMember, newOauthClient,
  newSite, timestampPattern, uuidPattern, visitorClient, wire,
} from './support.mjs';

let site, clientId;
before(async () => {
  site = await newSite();
  clientId = await newOauthClient(site);
});

describe('a visitor', () => {
  test('lists nothing', async () => {
    const client = visitorClient(clientId);
    assert.deepEqual(await client.socialMedia.listFollowedChannels(), { followedChannels: [] });
    assert.equal(client.auth.loggedIn(), false);
  });
});

describe('a member', () => {
  test('lists nothing before the first follow', async () => {
    const client = await memberClient(clientId, await newMember(site));
    assert.equal(client.auth.loggedIn(), true);
    assert.deepEqual(await client.socialMedia.listFollowedChannels(), { followedChannels: [] });
  });

  test('follows a channel and gets the followed channel', async () => {
    const client = await memberClient(clientId, await newMember(site));
    const followed = await client.socialMedia.createFollowedChannel({ channel: 'X' });
    const { followedChannel: sent } = lastBody();
    assert.deepEqual(Object.keys(lastBody()), ['followedChannel']);
    assert.match(sent.id, uuidPattern);
    assert.match(sent.accountId, uuidPattern);
    assert.match(sent.createdDate, timestampPattern);
    assert.deepEqual(sent, { id: sent.id, accountId: sent.accountId, channel: 'X', createdDate: sent.createdDate });
    assert.deepEqual(followed, {
      _id: sent.id,
      accountId: sent.accountId,
      channel: 'X',
      _createdDate: new Date(sent.createdDate),
    });
    assert.equal(wire.at(-1).path, '/loyalty-social-media/v1/followed-channels');
  });

  test('lists the newest follow first', async () => {
    const client = await memberClient(clientId, await newMember(site));
    const first = await client.socialMedia.createFollowedChannel({ channel: 'TIKTOK' });
    const second = await client.socialMedia.createFollowedChannel({ channel: 'X' });
    const third = await client.socialMedia.createFollowedChannel({ channel: 'INSTAGRAM' });
    assert.deepEqual(await client.socialMedia.listFollowedChannels(), { followedChannels: [third, second, first] });
  });

  test('cannot choose id, account or date of a follow', async () => {
    const memberId = await newMember(site);
    const other = await memberClient(clientId, await newMember(site));
    const stranger = await other.socialMedia.createFollowedChannel({ channel: 'X' });
    const client = await memberClient(clientId, memberId);
    const followed = await client.socialMedia.createFollowedChannel({
      _id: stranger._id,
      accountId: stranger.accountId,
      channel: 'INSTAGRAM',
      _createdDate: new Date('2001-02-03T04:05:06.789Z'),
    });
    assert.equal(JSON.parse(wire.at(-1).body).followedChannel.createdDate, '2001-02-03T04:05:06.789Z');
    const { account } = await client.accounts.getCurrentMemberAccount();
    assert.notEqual(account._id, stranger.accountId);
    assert.notEqual(followed._id, stranger._id);
    assert.equal(followed.accountId, account._id);
    assert.equal(followed._createdDate.getUTCFullYear() >= 2024, true);
    assert.deepEqual(await other.socialMedia.listFollowedChannels(), { followedChannels: [stranger] });
  });

  test('follows once and is paid once when it asks eight times at the same moment', async () => {
    const client = await memberClient(clientId, await newMember(site));
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, () => client.socialMedia.createFollowedChannel({ channel: 'X' })),
    );
    const followed = outcomes.filter(({ status }) => status === 'fulfilled').map(({ value }) => value);
    const refusals = outcomes.filter(({ status }) => status === 'rejected').map(({ reason }) => reason.status);
    assert.deepEqual([followed.length, refusals], [1, [409, 409, 409, 409, 409, 409, 409]]);
    assert.deepEqual(await client.socialMedia.listFollowedChannels(), { followedChannels: followed });
    const { account } = await client.accounts.getCurrentMemberAccount();
    assert.deepEqual(account.points, { balance: 50, earned: 50, adjusted: 0, redeemed: 0, expired: 0 });
  });

  test('is served under the /_api path too', async () => {
    const member = await memberClient(clientId, await newMember(site));
    const client = createClient({
      modules,
      auth: member.auth,
      host: { apiBaseUrl: 'api.shop.example', name: 'shop' },
      useCDN: false,
    });
    const followed = await client.socialMedia.createFollowedChannel({ channel: 'X' });
    assert.equal(wire.at(-1).path, '/_api/loyalty-social-media/v1/followed-channels');
    assert.deepEqual(await client.socialMedia.listFollowedChannels(), { followedChannels: [followed] });
    assert.equal(wire.at(-1).path, '/_api/loyalty-social-media/v1/followed-channels');
    assert.equal((await client.accounts.getCurrentMemberAccount()).account._id, followed.accountId);
    assert.equal(wire.at(-1).path, '/_api/loyalty-accounts/v1/accounts/my-account');
  });
});

for (const [name, connect] of [
  ['an API key', async () => apiKeyClient(site)],
  ['an app instance', async () => appClient(await newApp(site))],
]) {
  describe(name, () => {
    test('follows for the account it names and lists it', async () => {
      const member = await memberClient(clientId, await newMember(site));
      const own = await member.socialMedia.createFollowedChannel({ channel: 'X' });
      const client = await connect();
      const followed = await client.socialMedia.createFollowedChannel({
        accountId: own.accountId,
        channel: 'INSTAGRAM',
      });
      const { followedChannel: sent } = lastBody();
      assert.deepEqual(followed, {
        _id: sent.id,
        accountId: own.accountId,
        channel: 'INSTAGRAM',
        _createdDate: new Date(sent.createdDate),
      });
      assert.deepEqual(await listOf(client, own.accountId), {
        status: 200,
        body: {
          followedChannels: [
            sent,
            { id: own._id, accountId: own.accountId, channel: 'X', createdDate: own._createdDate.toISOString() },
          ],
        },
      });
      assert.deepEqual(await member.socialMedia.listFollowedChannels(), { followedChannels: [followed, own] });
    });
  });
}

test('an app instance asks for its token once and keeps it', async () => {
  const client = appClient(await newApp(site));
  const member = await memberClient(clientId, await newMember(site));
  const { accountId } = await member.socialMedia.createFollowedChannel({ channel: 'X' });
  const start = wire.length;
  assert.equal((await listOf(client, accountId)).status, 200);
  assert.equal((await listOf(client, accountId)).status, 200);
  assert.deepEqual(wire.slice(start).map(({ method, path, status }) => [method, path, status]), [
    ['POST', '/oauth2/token', 200],
    ['GET', `/loyalty-social-media/v1/followed-channels?accountId=${accountId}`, 200],
    ['GET', `/loyalty-social-media/v1/followed-channels?accountId=${accountId}`, 200],
  ]);
});

test('an API key with the Bearer prefix is the same key', async () => {
  const client = createClient({ modules, auth: ApiKeyStrategy({ apiKey: `Bearer ${adminKey}`, siteId: site }) });
  const { loyaltyProgram } = await client.programs.getLoyaltyProgram();
  assert.equal(loyaltyProgram.status, 'ACTIVE');
});
