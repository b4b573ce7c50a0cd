"""The client that openapi-python-client makes of openapi/openapi.json, against the running server."""

import os
import uuid

import httpx
import pytest
from followpoints_client import AuthenticatedClient, Client
from followpoints_client.api.social_media import create_followed_channel, list_followed_channels
from followpoints_client.models import CreateFollowedChannelRequest

BASE_URL = os.environ["FOLLOWPOINTS_URL"]
ADMIN_KEY = os.environ["FOLLOWPOINTS_ADMIN_KEY"]


def admin(method, path, body=None, site=None):
    headers = {"authorization": ADMIN_KEY} | ({"wix-site-id": site} if site else {})
    answer = httpx.request(method, BASE_URL + path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def site():
    """A site on which X is enabled and gives 50 points."""
    site = admin("POST", "/admin/v1/sites", {"site": {"name": "Nordbrew"}})["site"]["id"]
    settings = admin("GET", "/admin/v1/social-media-settings", site=site)["socialMediaSettings"]
    channels = [{"type": "X", "enabled": True, "id": "nordbrew", "points": 50}]
    body = {"socialMediaSettings": {"revision": settings["revision"], "channels": channels}}
    admin("PATCH", "/admin/v1/social-media-settings", body, site)
    admin("POST", "/loyalty-programs/v1/program/activate", {}, site)
    return site


@pytest.fixture
def client(site):
    """The generated client, signed in as a new member of the site."""
    member = {"externalId": f"u-{uuid.uuid4()}", "email": "member@example.com", "name": "Example Member"}
    member_id = admin("POST", "/admin/v1/members", {"member": member}, site)["member"]["id"]
    token = admin("POST", f"/admin/v1/members/{member_id}/tokens", {}, site)["access_token"]
    return AuthenticatedClient(base_url=BASE_URL, token=token, prefix="", raise_on_unexpected_status=True)


def follow(channel):
    return CreateFollowedChannelRequest.from_dict({"followedChannel": {"channel": channel}})


def test_create_then_list(client):
    created = create_followed_channel.sync_detailed(client=client, body=follow("X"))
    assert created.status_code == 200
    followed = created.parsed.followed_channel
    assert followed.channel.value == "X"

    listed = list_followed_channels.sync_detailed(client=client)
    assert listed.status_code == 200
    assert listed.parsed.to_dict() == {"followedChannels": [followed.to_dict()]}


def test_a_refusal_has_the_declared_shape(client):
    refused = create_followed_channel.sync_detailed(client=client, body=follow("LINKEDIN"))
    assert refused.status_code == 428
    assert refused.parsed.to_dict() == {
        "message": "channel LINKEDIN is not enabled",
        "details": {
            "applicationError": {
                "code": "CHANNEL_NOT_ENABLED",
                "description": "channel LINKEDIN is not enabled",
                "data": {"channel": "LINKEDIN"},
            }
        },
    }


def test_no_token_no_answer():
    answer = list_followed_channels.sync_detailed(client=Client(base_url=BASE_URL))
    assert answer.status_code == 401
    assert answer.parsed.to_dict()["details"]["applicationError"]["code"] == "UNAUTHENTICATED"
