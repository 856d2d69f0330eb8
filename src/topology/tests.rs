//! What the topology promises, by operation, and as a whole against a plain model.

mod bind;
mod choosing;
mod declare;
mod delete;
pub(super) mod fixture;
mod model;
mod route;
