//! Conversions of AdminService.

use std::time::Duration;

use crate::{
    node::{AddNode, CorrectedTime, Newcomer, ReplaceNode, SetAddress},
    server::services::{check, outcome::time},
    types::NodeName,
    wire::{Fault, admin, cluster::Role},
};

/// Bytes in an etag. The node's own are much shorter.
const ETAG_BYTES: usize = 128;

pub(in crate::server) fn add_node(request: admin::AddNodeRequest) -> Result<AddNode, Fault> {
    let newcomer = Newcomer::parse(&request.name, &request.address, &request.zone)?;
    etag(&request.etag)?;
    let admin::AddNodeRequest { learner_only, etag, validate_only, .. } = request;
    Ok(AddNode { newcomer, learner_only, etag, validate_only })
}

pub(in crate::server) fn replace_node(request: admin::ReplaceNodeRequest) -> Result<ReplaceNode, Fault> {
    let old_name = node_name("old_name", &request.old_name)?;
    let newcomer = Newcomer::parse(&request.name, &request.address, &request.zone)?;
    etag(&request.etag)?;
    Ok(ReplaceNode { old_name, newcomer, etag: request.etag, validate_only: request.validate_only })
}

pub(in crate::server) fn remove_node(request: admin::RemoveNodeRequest) -> Result<admin::RemoveNodeRequest, Fault> {
    node_name("name", &request.name)?;
    etag(&request.etag)?;
    Ok(request)
}

pub(in crate::server) fn set_role(request: admin::SetRoleRequest) -> Result<admin::SetRoleRequest, Fault> {
    node_name("name", &request.name)?;
    etag(&request.etag)?;
    match Role::try_from(request.role) {
        Ok(Role::Learner | Role::Voter) => Ok(request),
        _ => Err(Fault::invalid("role", "role must be ROLE_LEARNER or ROLE_VOTER")),
    }
}

pub(in crate::server) fn set_address(request: admin::SetAddressRequest) -> Result<SetAddress, Fault> {
    let Newcomer { name, address, .. } = Newcomer::parse(&request.name, &request.address, "")?;
    etag(&request.etag)?;
    Ok(SetAddress { name, address, etag: request.etag, validate_only: request.validate_only })
}

pub(in crate::server) fn transfer_leadership(
    request: admin::TransferLeadershipRequest,
) -> Result<admin::TransferLeadershipRequest, Fault> {
    if !request.to_name.is_empty() {
        node_name("to_name", &request.to_name)?;
    }
    Ok(request)
}

pub(in crate::server) fn correct_time(request: admin::CorrectTimeRequest) -> Result<(bool, Option<Duration>), Fault> {
    let clients_ahead = request.clients_ahead.map(Duration::try_from).transpose();
    let clients_ahead = clients_ahead.map_err(|_| Fault::invalid("clients_ahead", "clients_ahead is negative"))?;
    Ok((request.validate_only, clients_ahead))
}

pub(in crate::server) fn corrected_time(corrected: &CorrectedTime) -> admin::CorrectTimeResponse {
    admin::CorrectTimeResponse {
        log_time: Some(time(corrected.change.from_ms)),
        time: Some(time(corrected.cluster_ms)),
        accepts_from: Some(time(corrected.change.accepts_from_ms)),
        was_ahead: corrected.was_ahead,
    }
}

fn node_name(field: &str, text: &str) -> Result<NodeName, Fault> {
    check::name(field, NodeName::new(text))
}

fn etag(text: &str) -> Result<(), Fault> {
    check::at_most("etag", text.len(), ETAG_BYTES, "bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong_field(name: &str, address: &str, zone: &str) -> Option<String> {
        let request = admin::AddNodeRequest {
            name: name.into(),
            address: address.into(),
            zone: zone.into(),
            ..Default::default()
        };
        add_node(request).err().and_then(|fault| fault.field)
    }

    #[test]
    fn a_newcomer_has_a_name_an_address_and_perhaps_a_zone() {
        assert_eq!(wrong_field("n2", "10.0.0.2:7400", "a"), None);
        assert_eq!(wrong_field("n2", "10.0.0.2:7400", ""), None);
        assert_eq!(wrong_field("", "10.0.0.2:7400", "").as_deref(), Some("name"));
        assert_eq!(wrong_field("n2", "10.0.0.2", "").as_deref(), Some("address"));
        assert_eq!(wrong_field("n2", "0.0.0.0:7400", "").as_deref(), Some("address"));
        assert_eq!(wrong_field("n2", "10.0.0.2:7400", "a b").as_deref(), Some("zone"));
    }

    #[test]
    fn a_role_is_learner_or_voter() {
        let asked = |role| {
            let request = admin::SetRoleRequest { name: "n1".into(), role, ..Default::default() };
            set_role(request).map(drop).map_err(|fault| fault.field.unwrap())
        };
        assert_eq!(asked(Role::Voter.into()), Ok(()));
        assert_eq!(asked(0), Err("role".to_owned()));
        assert_eq!(asked(77), Err("role".to_owned()));
    }

    #[test]
    fn leadership_goes_to_a_named_node_or_to_the_best() {
        let asked = |name: &str| transfer_leadership(admin::TransferLeadershipRequest { to_name: name.into() });
        assert!(asked("").is_ok() && asked("n2").is_ok());
        assert_eq!(asked("no node").unwrap_err().field.as_deref(), Some("to_name"));
    }
}
