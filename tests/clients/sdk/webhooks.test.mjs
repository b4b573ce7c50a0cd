// A receiver as Wix documents it (express and the SDK) takes the server's webhooks and reads them with the SDK.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import express from 'express';
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose';
import {
  accountOfSdk, admin, appClient, baseUrl, lastBody, memberClient, newApp, newMember, newOauthClient, newSite,
  timestampPattern, uuidPattern,
} from './support.mjs';

const deadlineMs = 20_000;
const types = {
  accountCreated: 'wix.loyalty.v1.account_created',
  accountUpdated: 'wix.loyalty.v1.account_updated',
  followed: 'wix.loyalty.socialmedia.v1.followed_channel_created',
  pointsUpdated: 'wix.loyalty.v1.account_points_updated',
};

let site, app, memberId, receiver, accountCreatedSent, accountSent, followedSent;
/** By event type: the request as it came in, and what the SDK's handler was given. */
const received = new Map();
const handled = new Map();

/** Waits until the receiver has had one request of each type, and fails at the deadline. */
function allReceived() {
  let arrived;
  const everything = new Promise((resolve) => { arrived = resolve; });
  const late = new Promise((_, reject) => {
    setTimeout(
      () => reject(new Error(`after ${deadlineMs} ms only these came: ${[...received.keys()].join(', ')}`)),
      deadlineMs,
    ).unref();
  });
  return { arrived, promise: Promise.race([everything, late]) };
}

before(async () => {
  site = await newSite();
  app = await newApp(site);
  const client = appClient(app);
  client.socialMedia.onFollowedChannelCreated((event) => { handled.set(types.followed, event); });
  client.accounts.onAccountCreated((event) => { handled.set(types.accountCreated, event); });
  client.accounts.onAccountUpdated((event) => { handled.set(types.accountUpdated, event); });
  client.accounts.onAccountPointsUpdated((event) => { handled.set(types.pointsUpdated, event); });

  const wait = allReceived();
  const server = express();
  server.post('/webhook', express.text(), async (request, response) => {
    try {
      const { eventType } = await client.webhooks.process(request.body);
      received.set(eventType, { headers: request.headers, jwt: request.body });
      response.status(200).send();
      if (received.size === Object.keys(types).length) {
        wait.arrived();
      }
    } catch (error) {
      console.error('the receiver refused a webhook:', error, request.headers, request.body);
      response.status(500).send();
    }
  });
  receiver = server.listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  await admin('POST', '/admin/v1/webhook-subscriptions', {
    site,
    body: {
      webhookSubscription: {
        appId: app.id,
        eventTypes: Object.values(types),
        url: `http://127.0.0.1:${receiver.address().port}/webhook`,
      },
    },
  });

  memberId = await newMember(site);
  const member = await memberClient(await newOauthClient(site), memberId);
  await member.socialMedia.createFollowedChannel({ channel: 'X' });
  followedSent = lastBody().followedChannel;
  await member.accounts.getCurrentMemberAccount();
  accountSent = lastBody().account;
  const { lastActivityDate, ...accountBefore } = accountSent;
  accountCreatedSent = {
    ...accountBefore,
    points: { balance: 0, earned: 0, adjusted: 0, redeemed: 0, expired: 0 },
    revision: '1',
  };
  await wait.promise;
});

after(() => {
  receiver.closeAllConnections();
  receiver.close();
});

/** Asserts every key of the metadata; only the event's own id is taken from the event. */
function assertMetadata(metadata, { entityFqdn, slug, entityId, sequence }) {
  assert.match(metadata._id, uuidPattern);
  assert.deepEqual(metadata, {
    _id: metadata._id,
    instanceId: app.instanceId,
    identity: { identityType: 'MEMBER', memberId },
    accountInfo: { siteId: site },
    entityFqdn,
    slug,
    entityId,
    eventTime: new Date(followedSent.createdDate),
    triggeredByAnonymizeRequest: false,
    originatedFrom: null,
    entityEventSequence: sequence,
  });
}

test('the follow reaches onFollowedChannelCreated', () => {
  const { entity, metadata, ...rest } = handled.get(types.followed);
  assert.deepEqual(rest, {});
  assert.deepEqual(entity, {
    _id: followedSent.id,
    accountId: accountSent.id,
    channel: 'X',
    _createdDate: new Date(followedSent.createdDate),
  });
  assertMetadata(metadata, {
    entityFqdn: 'wix.loyalty.socialmedia.v1.followed_channel',
    slug: 'created',
    entityId: followedSent.id,
    sequence: '1',
  });
});

test('the new account reaches onAccountCreated', () => {
  const { entity, metadata, ...rest } = handled.get(types.accountCreated);
  assert.deepEqual(rest, {});
  assert.deepEqual(entity, accountOfSdk(accountCreatedSent));
  assertMetadata(metadata, {
    entityFqdn: 'wix.loyalty.v1.account',
    slug: 'created',
    entityId: accountSent.id,
    sequence: '1',
  });
});

test('the points reach onAccountPointsUpdated', () => {
  const { data, metadata, ...rest } = handled.get(types.pointsUpdated);
  assert.deepEqual(rest, {});
  assert.deepEqual(data, { account: accountOfSdk(accountSent) });
  assertMetadata(metadata, {
    entityFqdn: 'wix.loyalty.v1.account',
    slug: 'points_updated',
    entityId: accountSent.id,
    sequence: '2',
  });
});

test('the changed account reaches onAccountUpdated', () => {
  const { entity, metadata, ...rest } = handled.get(types.accountUpdated);
  assert.deepEqual(rest, {});
  assert.deepEqual(entity, accountOfSdk(accountSent));
  assertMetadata(metadata, {
    entityFqdn: 'wix.loyalty.v1.account',
    slug: 'updated',
    entityId: accountSent.id,
    sequence: '3',
  });
});

test('every body is a compact RS256 JWS sent as text', () => {
  assert.deepEqual([...received.keys()].sort(), Object.values(types).sort());
  for (const { headers, jwt } of received.values()) {
    assert.match(headers['content-type'], /^text\/plain(; ?charset=utf-8)?$/i);
    assert.match(jwt, /^[\w-]+\.[\w-]+\.[\w-]+$/);
    const header = decodeProtectedHeader(jwt);
    assert.deepEqual([header.alg, header.kid], ['RS256', app.keyId]);
    const claims = decodeJwt(jwt);
    const outer = JSON.parse(claims.data);
    const inner = JSON.parse(outer.data);
    assert.equal(claims.jti, inner.id);
    assert.equal(claims.iat, Math.floor(Date.parse(inner.eventTime) / 1000));
    assert.equal(claims.exp, claims.iat + 300_000);
    assert.match(inner.eventTime, timestampPattern);
    assert.equal(typeof outer.identity, 'string');
  }
});

test('the published keys verify the same bodies', async () => {
  const response = await fetch(`${baseUrl}/.well-known/jwks.json`);
  assert.equal(response.status, 200);
  const keys = createLocalJWKSet(await response.json());
  for (const { jwt } of received.values()) {
    const { payload } = await jwtVerify(jwt, keys, { algorithms: ['RS256'] });
    assert.deepEqual(payload, decodeJwt(jwt));
    const [head, body, signature] = jwt.split('.');
    const flipped = `${signature[0] === 'A' ? 'B' : 'A'}${signature.slice(1)}`;
    await assert.rejects(jwtVerify(`${head}.${body}.${flipped}`, keys), {
      code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED',
    });
  }
});

test('the log shows each event as delivered at the first try', async () => {
  const { events } = await admin('GET', '/admin/v1/events?limit=50', { site });
  const typeOf = new Map(events.map(({ id, eventType }) => [id, eventType]));
  const expected = Object.values(types).sort().map((type) => [type, 'DELIVERED', 1]);
  const deadline = Date.now() + deadlineMs;
  let seen;
  do {
    const { webhookDeliveries } = await admin('GET', '/admin/v1/webhook-deliveries?limit=50', { site });
    seen = webhookDeliveries
      .map(({ eventId, status, attemptCount }) => [typeOf.get(eventId), status, attemptCount])
      .sort();
  } while (!isDeepStrictEqual(seen, expected) && Date.now() < deadline);
  assert.deepEqual(seen, expected);
});
