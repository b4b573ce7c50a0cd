// Accounts and the program through the real SDK.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import {
  accountOfSdk, apiKeyClient, appClient, lastBody, memberClient, newApp, newMember, newOauthClient, newSite, refusal,
  refused, timestampPattern, uuidPattern, wire,
} from './support.mjs';

const dates = ['createdDate', 'updatedDate', 'lastActivityDate'];

let site, clientId;
before(async () => {
  site = await newSite();
  clientId = await newOauthClient(site);
});

test('a member has no account before the first follow', async () => {
  const client = await memberClient(clientId, await newMember(site));
  assert.deepEqual(
    await refusal(() => client.accounts.getCurrentMemberAccount()),
    refused(404, 'ACCOUNT_NOT_FOUND', 'there is no such account'),
  );
});

test('the first follow makes the account and pays the points', async () => {
  const memberId = await newMember(site);
  const client = await memberClient(clientId, memberId);
  const followed = await client.socialMedia.createFollowedChannel({ channel: 'X' });
  const { account } = await client.accounts.getCurrentMemberAccount();
  assert.equal(wire.at(-1).path, '/loyalty-accounts/v1/accounts/my-account');
  const { account: sent } = lastBody();
  assert.deepEqual(Object.keys(lastBody()), ['account']);
  for (const date of dates) {
    assert.match(sent[date], timestampPattern, date);
  }
  assert.match(sent.id, uuidPattern);
  assert.match(sent.contactId, uuidPattern);
  assert.deepEqual(sent, {
    id: followed.accountId,
    contactId: sent.contactId,
    memberId,
    points: { balance: 50, earned: 50, adjusted: 0, redeemed: 0, expired: 0 },
    createdDate: followed._createdDate.toISOString(),
    updatedDate: followed._createdDate.toISOString(),
    lastActivityDate: followed._createdDate.toISOString(),
    revision: '2',
  });
  assert.deepEqual(account, accountOfSdk(sent));
});

test('points add up over channels, and a channel without points adds none', async () => {
  const client = await memberClient(clientId, await newMember(site));
  const balances = [];
  for (const channel of ['TIKTOK', 'INSTAGRAM', 'X']) {
    await client.socialMedia.createFollowedChannel({ channel });
    const { account } = await client.accounts.getCurrentMemberAccount();
    balances.push([account.points.balance, account.points.earned, account.revision]);
  }
  assert.deepEqual(balances, [[0, 0, '1'], [30, 30, '2'], [80, 80, '3']]);
});

for (const [name, connect] of [
  ['an API key', async () => apiKeyClient(site)],
  ['an app instance', async () => appClient(await newApp(site))],
]) {
  describe(name, () => {
    test('reads an account by its id, by its member and by its contact', async () => {
      const memberId = await newMember(site);
      const member = await memberClient(clientId, memberId);
      await member.socialMedia.createFollowedChannel({ channel: 'X' });
      const { account } = await member.accounts.getCurrentMemberAccount();
      const client = await connect();
      assert.deepEqual(await client.accounts.getAccount(account._id), account);
      assert.equal(wire.at(-1).path, `/loyalty-accounts/v1/accounts/${account._id}?id=${account._id}`);
      assert.deepEqual(await client.accounts.getAccountBySecondaryId({ memberId }), { account });
      assert.equal(wire.at(-1).path, `/loyalty-accounts/v1/accounts/fetch-by?memberId=${memberId}`);
      assert.deepEqual(await client.accounts.getAccountBySecondaryId({ contactId: account.contactId }), { account });
    });

    test('finds no account for a member without one', async () => {
      const memberId = await newMember(site);
      const client = await connect();
      assert.deepEqual(
        await refusal(() => client.accounts.getAccountBySecondaryId({ memberId })),
        refused(404, 'ACCOUNT_NOT_FOUND', 'there is no such account'),
      );
    });

    test('reads and switches the program', async () => {
      const other = await newSite({ active: false });
      const client = name === 'an API key' ? apiKeyClient(other) : appClient(await newApp(other));
      const statuses = [];
      for (const call of [
        'getLoyaltyProgram', 'activateLoyaltyProgram', 'getLoyaltyProgram', 'pauseLoyaltyProgram', 'getLoyaltyProgram',
      ]) {
        const { loyaltyProgram } = await client.programs[call]();
        assert.equal(loyaltyProgram._createdDate instanceof Date, true);
        assert.equal(loyaltyProgram._updatedDate instanceof Date, true);
        statuses.push(loyaltyProgram.status);
      }
      assert.deepEqual(statuses, ['DRAFT', 'ACTIVE', 'ACTIVE', 'PAUSED', 'PAUSED']);
    });
  });
}

test('a member reads no account but its own', async () => {
  const other = await memberClient(clientId, await newMember(site));
  const { accountId } = await other.socialMedia.createFollowedChannel({ channel: 'X' });
  const client = await memberClient(clientId, await newMember(site));
  await client.socialMedia.createFollowedChannel({ channel: 'X' });
  const seen = await refusal(() => client.accounts.getAccount(accountId));
  assert.equal([403, 404].includes(seen.status), true, JSON.stringify(seen));
});
