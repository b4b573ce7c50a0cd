// The client that openapi-typescript and openapi-fetch make of openapi/openapi.json: it must type-check and work.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, test } from 'node:test';
import createClient from 'openapi-fetch';
import type { paths } from '../generated/schema.js';

const followedChannels = '/loyalty-social-media/v1/followed-channels';

function required(name: string): string {
  const value = process.env[name];
  assert.ok(value, `${name} is not set: start these tests with tests/clients/run`);
  return value;
}

const baseUrl = required('FOLLOWPOINTS_URL');
const authorization = required('FOLLOWPOINTS_ADMIN_KEY');
const operator = createClient<paths>({ baseUrl, headers: { authorization } });
let owner: ReturnType<typeof createClient<paths>>;
let member: ReturnType<typeof createClient<paths>>;

before(async () => {
  const { data: created } = await operator.POST('/admin/v1/sites', { body: { site: { name: 'Nordbrew' } } });
  assert.ok(created);
  owner = createClient<paths>({ baseUrl, headers: { authorization, 'wix-site-id': created.site.id } });

  const { data: settings } = await owner.GET('/admin/v1/social-media-settings');
  assert.ok(settings);
  const { data: changed } = await owner.PATCH('/admin/v1/social-media-settings', {
    body: {
      socialMediaSettings: {
        revision: settings.socialMediaSettings.revision,
        channels: [{ type: 'X', enabled: true, id: 'nordbrew', points: 50 }],
      },
    },
  });
  assert.ok(changed);
  const { data: program } = await owner.POST('/loyalty-programs/v1/program/activate');
  assert.equal(program?.loyaltyProgram.status, 'ACTIVE');

  const { data: joined } = await owner.POST('/admin/v1/members', {
    body: { member: { externalId: `u-${randomUUID()}`, email: 'member@example.com', name: 'Example Member' } },
  });
  assert.ok(joined);
  const { data: tokens } = await owner.POST('/admin/v1/members/{id}/tokens', {
    params: { path: { id: joined.member.id } },
  });
  assert.ok(tokens);
  member = createClient<paths>({ baseUrl, headers: { authorization: tokens.access_token } });
});

test('create, then list', async () => {
  const created = await member.POST(followedChannels, { body: { followedChannel: { channel: 'X' } } });
  assert.equal(created.response.status, 200);
  assert.equal(created.data?.followedChannel.channel, 'X');
  const listed = await member.GET(followedChannels);
  assert.equal(listed.response.status, 200);
  assert.deepEqual(listed.data, { followedChannels: [created.data.followedChannel] });
});

test('a refusal has the declared shape', async () => {
  const { data, error, response } = await member.POST(followedChannels, {
    body: { followedChannel: { channel: 'LINKEDIN' } },
  });
  assert.equal(data, undefined);
  assert.equal(response.status, 428);
  assert.deepEqual(error, {
    message: 'channel LINKEDIN is not enabled',
    details: {
      applicationError: {
        code: 'CHANNEL_NOT_ENABLED',
        description: 'channel LINKEDIN is not enabled',
        data: { channel: 'LINKEDIN' },
      },
    },
  });
});

test('no token, no answer', async () => {
  const { error, response } = await createClient<paths>({ baseUrl }).GET(followedChannels);
  assert.equal(response.status, 401);
  assert.equal(error?.details.applicationError?.code, 'UNAUTHENTICATED');
});
