//! Compiles the protobuf files with protox, so that building needs no protoc.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 5] = [
    "chat/v1/chat.proto",
    "chat/cluster/v1/cluster.proto",
    "chat/admin/v1/admin.proto",
    "chat/raft/v1/raft.proto",
    "chat/store/v1/store.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Read at run time by reflection and by `--json`.
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut prost = prost_build::Config::new();
    prost.enable_type_names();
    tonic_prost_build::configure().bytes(".").compile_fds_with_config(descriptors, prost)?;
    Ok(())
}
