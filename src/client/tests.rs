//! The client against scripted nodes.
