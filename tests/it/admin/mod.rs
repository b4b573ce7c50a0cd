//! The admin API as owners and operators use it.

mod keys_and_clients;
mod programs;
mod settings;
mod sites_and_members;

use serde_json::Value;

use crate::support::TestApp;

/// Every page of a list, one item at a time, as `limit` cuts it.
async fn pages(app: &TestApp, path: &str, name: &str, key: (&str, &str), limit: u32) -> Vec<Vec<Value>> {
    let sign = if path.contains('?') { '&' } else { '?' };
    let mut pages = Vec::new();
    let mut next = format!("{path}{sign}limit={limit}");
    loop {
        let body = app.call("GET", &next).key(key.0, key.1).ok().await;
        let items = body[name].as_array().unwrap().clone();
        let paging = &body["pagingMetadata"];
        assert_eq!(paging["count"], items.len(), "{path}");
        pages.push(items);
        assert!(pages.len() < 100, "{path} has no end");
        let Some(cursor) = paging["cursors"].get("next") else {
            assert_eq!(paging["hasNext"], false, "{path}");
            return pages;
        };
        assert_eq!(paging["hasNext"], true, "{path}");
        // Filters live in the cursor: the next page asks with the cursor alone.
        let path = path.split('?').next().unwrap();
        next = format!("{path}?limit={limit}&cursor={}", cursor.as_str().unwrap());
    }
}
