//! The node: workers, control runtime, configuration, authentication, API, admin.
