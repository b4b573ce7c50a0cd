//! Instagram: what its webhooks say, and the Graph API that says the rest.
