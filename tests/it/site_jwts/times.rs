//! When a site's token begins and ends: by our clock, with thirty seconds of forgiveness.

use serde_json::json;

use super::{NOW, claims_with, issuer, status, trusting_site};
use crate::on_both;
use crate::support::keys;

on_both! {
    async fn thirty_seconds_of_difference_between_clocks_are_forgiven(app: &TestApp) {
        trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let key = keys::ed(keys::ED_PRIVATE);
        for (claim, seconds, expected) in [
            ("exp", 1, 200),
            ("exp", 0, 200),
            ("exp", -29, 200),
            ("exp", -30, 401),
            ("exp", -31, 401),
            ("exp", -86_400, 401),
            ("nbf", -1, 200),
            ("nbf", 29, 200),
            ("nbf", 30, 200),
            ("nbf", 31, 401),
            ("nbf", 86_400, 401),
            ("iat", 29, 200),
            ("iat", 30, 200),
            ("iat", 31, 401),
            ("iat", 86_400, 401),
        ] {
            let token = key.sign(&claims_with(claim, json!(NOW + seconds)));
            assert_eq!(status(app, &token).await, expected, "{claim} {seconds}");
        }
    }
}

on_both! {
    async fn milliseconds_where_seconds_belong_make_a_token_from_the_future(app: &TestApp) {
        trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let key = keys::ed(keys::ED_PRIVATE);
        assert_eq!(status(app, &key.sign(&claims_with("iat", json!(NOW * 1000)))).await, 401);
        for (far, expected) in [(json!(NOW * 1000), 200), (json!(i64::MAX), 200), (json!(1e300), 401)] {
            assert_eq!(status(app, &key.sign(&claims_with("exp", far.clone()))).await, expected, "{far}");
            assert_eq!(status(app, &key.sign(&claims_with("nbf", far.clone()))).await, 401, "{far}");
        }
    }
}

on_both! {
    async fn a_token_ends_at_its_second_even_if_it_was_used_just_before(app: &TestApp) {
        trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let token = keys::ed(keys::ED_PRIVATE).sign(&claims_with("exp", json!(NOW + 10)));
        assert_eq!(status(app, &token).await, 200);
        // Ten seconds, thirty of forgiveness, and the clock started 431 ms into its second.
        app.clock.advance_ms(40_000 - 431 - 1);
        assert_eq!(status(app, &token).await, 200);
        app.clock.advance_ms(1);
        assert_eq!(status(app, &token).await, 401);
    }
}
