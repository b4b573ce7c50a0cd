// Every refusal of the contract, as the real SDK reports it to the caller.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import {
  apiKeyClient, appClient, clientWithToken, lastBody, listOf, memberClient, newApp, newMember, newOauthClient, newSite,
  refusal, refused, visitorClient, wire,
} from './support.mjs';

const mustNameAccount = 'must name the account: the caller is not a member';
const unknownAccount = '01890000-0000-7000-8000-000000000000';

let site, clientId;
before(async () => {
  site = await newSite();
  clientId = await newOauthClient(site);
});

function violation(field, violatedRule, description, data = {}) {
  return { status: 400, validationError: { fieldViolations: [{ field, description, violatedRule, data }] } };
}

test('a second follow of the same channel answers with the first', async () => {
  const client = await memberClient(clientId, await newMember(site));
  await client.socialMedia.createFollowedChannel({ channel: 'X' });
  const { followedChannel } = lastBody();
  assert.deepEqual(
    await refusal(() => client.socialMedia.createFollowedChannel({ channel: 'X' })),
    refused(409, 'ALREADY_EXISTS', 'channel X is already followed', { followedChannel }),
  );
  const { account } = await client.accounts.getCurrentMemberAccount();
  assert.deepEqual(account.points, { balance: 50, earned: 50, adjusted: 0, redeemed: 0, expired: 0 });
});

test('a channel that is not enabled cannot be followed', async () => {
  const client = await memberClient(clientId, await newMember(site));
  assert.deepEqual(
    await refusal(() => client.socialMedia.createFollowedChannel({ channel: 'LINKEDIN' })),
    refused(428, 'CHANNEL_NOT_ENABLED', 'channel LINKEDIN is not enabled', { channel: 'LINKEDIN' }),
  );
  assert.deepEqual(await client.socialMedia.listFollowedChannels(), { followedChannels: [] });
});

test('nothing can be followed while the program is not active', async () => {
  const draft = await newSite({ active: false });
  const client = await memberClient(await newOauthClient(draft), await newMember(draft));
  const follow = () => client.socialMedia.createFollowedChannel({ channel: 'X' });
  const owner = apiKeyClient(draft);
  assert.deepEqual(
    await refusal(follow),
    refused(428, 'PROGRAM_NOT_ACTIVE', 'the loyalty program is DRAFT', { status: 'DRAFT' }),
  );
  assert.equal((await owner.programs.activateLoyaltyProgram()).loyaltyProgram.status, 'ACTIVE');
  assert.equal((await follow()).channel, 'X');
  assert.equal((await owner.programs.pauseLoyaltyProgram()).loyaltyProgram.status, 'PAUSED');
  assert.deepEqual(
    await refusal(() => client.socialMedia.createFollowedChannel({ channel: 'INSTAGRAM' })),
    refused(428, 'PROGRAM_NOT_ACTIVE', 'the loyalty program is PAUSED', { status: 'PAUSED' }),
  );
});

for (const [name, channel] of [['an unknown', 'MYSPACE'], ['a lower-case', 'x'], ['an empty', '']]) {
  test(`${name} channel is a violation of followedChannel.channel`, async () => {
    const client = await memberClient(clientId, await newMember(site));
    assert.deepEqual(
      await refusal(() => client.socialMedia.createFollowedChannel({ channel })),
      violation(
        'followedChannel.channel',
        'INVALID_ENUM_VALUE',
        'must be one of FACEBOOK, INSTAGRAM, LINKEDIN, X, TIKTOK',
        { allowed: ['FACEBOOK', 'INSTAGRAM', 'LINKEDIN', 'X', 'TIKTOK'] },
      ),
    );
  });
}

test('a create without a followed channel is a violation of followedChannel', async () => {
  const client = await memberClient(clientId, await newMember(site));
  const seen = await refusal(() => client.socialMedia.createFollowedChannel());
  assert.equal(wire.at(-1).body, '{}');
  assert.deepEqual(seen, violation('followedChannel', 'REQUIRED_FIELD', 'must not be empty'));
});

test('a create without a channel is a violation of followedChannel.channel', async () => {
  const client = await memberClient(clientId, await newMember(site));
  const seen = await refusal(() => client.socialMedia.createFollowedChannel({}));
  assert.equal(wire.at(-1).body, '{"followedChannel":{}}');
  assert.deepEqual(seen, violation('followedChannel.channel', 'REQUIRED_FIELD', 'must not be empty'));
});

test('a visitor cannot follow', async () => {
  const client = visitorClient(clientId);
  const seen = await refusal(() => client.socialMedia.createFollowedChannel({ channel: 'X' }));
  assert.deepEqual(
    [seen.status, seen.applicationError.code, seen.applicationError.data],
    [403, 'PERMISSION_DENIED', {}],
  );
});

for (const [name, token] of [
  ['an unknown token', 'not-a-token'],
  ['an unknown token with the Bearer prefix', 'Bearer not-a-token'],
  ['an empty Authorization header', ''],
  ['an unsigned JWT', 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.'],
]) {
  test(`${name} is unauthenticated`, async () => {
    const client = clientWithToken(token);
    for (const call of [
      () => client.socialMedia.listFollowedChannels(),
      () => client.socialMedia.createFollowedChannel({ channel: 'X' }),
      () => client.accounts.getCurrentMemberAccount(),
    ]) {
      const seen = await refusal(call);
      assert.deepEqual(
        [seen.status, seen.applicationError.code, seen.applicationError.data],
        [401, 'UNAUTHENTICATED', {}],
      );
    }
  });
}

for (const [name, connect] of [
  ['an API key', async () => apiKeyClient(site)],
  ['an app instance', async () => appClient(await newApp(site))],
]) {
  test(`${name} must say whose channels it lists`, async () => {
    const client = await connect();
    assert.deepEqual(
      await refusal(() => client.socialMedia.listFollowedChannels()),
      violation('accountId', 'REQUIRED_FIELD', mustNameAccount),
    );
  });

  test(`${name} must say for whom it follows`, async () => {
    const client = await connect();
    assert.deepEqual(
      await refusal(() => client.socialMedia.createFollowedChannel({ channel: 'X' })),
      violation('followedChannel.accountId', 'REQUIRED_FIELD', mustNameAccount),
    );
  });

  test(`${name} gets the same answer for a foreign account as for an unknown one`, async () => {
    const elsewhere = await newSite();
    const stranger = await memberClient(await newOauthClient(elsewhere), await newMember(elsewhere));
    const { accountId: foreign } = await stranger.socialMedia.createFollowedChannel({ channel: 'X' });
    const client = await connect();
    for (const accountId of [foreign, unknownAccount]) {
      const create = await refusal(() => client.socialMedia.createFollowedChannel({ accountId, channel: 'X' }));
      assert.deepEqual([create.status, create.applicationError.code], [404, 'ACCOUNT_NOT_FOUND']);
      const list = await listOf(client, accountId);
      assert.deepEqual([list.status, list.body.details.applicationError.code], [404, 'ACCOUNT_NOT_FOUND']);
      const read = await refusal(() => client.accounts.getAccount(accountId));
      assert.deepEqual([read.status, read.applicationError.code], [404, 'ACCOUNT_NOT_FOUND']);
    }
    assert.equal((await stranger.socialMedia.listFollowedChannels()).followedChannels.length, 1);
  });
}

test('a member of one site is nobody on another', async () => {
  const elsewhere = await newSite();
  const memberElsewhere = await newMember(elsewhere);
  await assert.rejects(memberClient(clientId, memberElsewhere), /Failed to fetch tokens from OAuth API/);
  assert.deepEqual([wire.at(-1).path, wire.at(-1).status], ['/oauth2/token', 400]);
  assert.equal(lastBody().error, 'invalid_grant');
});
