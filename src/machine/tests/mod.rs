//! Tests of the machine as a whole: golden scripts, and properties against naive models.

mod bounds;
mod fixture;
mod history;
mod properties;
mod script;
mod total;
