//! Commands of chat-admin against a fake node.
