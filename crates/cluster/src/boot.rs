//! Components as services.
