"""Every fault a manifest can hide: findings, and the tables that go with them."""
