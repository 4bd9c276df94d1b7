//! `[admin]`, and what it has in common with the registry: TLS, tokens, and that nothing is open to a network.

use super::{listen_address, optional, token, tokens};
use crate::config::raw::{Section, Value};
use crate::config::{
    Admin, ApiTls, CertificateId, ClientAuthorities, ClientCertificates, ClientRole, Demand, Role, Token,
};
use std::net::SocketAddr;

/// The most certificates that have roles.
const MAX_CLIENT_ROLES: usize = 1000;

/// `[admin]`
pub(super) fn admin(mut section: Section<'_>) -> Option<Admin> {
    let address = section.value("address");
    let listen = listen_address(address.as_ref(), "127.0.0.1:9090");
    let token_file = section.value("token_file");
    let tokens_file = section.value("tokens_file");
    let (mut client_roles, tls) = (Vec::new(), section.section("tls"));
    let tls = tls.map(|mut tls| {
        client_roles = self::client_roles(&mut tls);
        api_tls(tls)
    });
    let is_guarded = token_file.is_some() || tokens_file.is_some();
    refuse_open(address.as_ref(), listen, (is_guarded, tls.as_ref()), "config/admin.token");
    let token = token_file.as_ref().and_then(token);
    let tokens = tokens_file.as_ref().map(admin_tokens).unwrap_or_default();
    section.finish();
    Some(Admin { address: listen?, token, tokens, tls: tls.flatten(), client_roles })
}

fn admin_tokens(value: &Value<'_>) -> Vec<Token> {
    let tokens = tokens::tokens(value);
    for token in &tokens {
        if !matches!(token.role, Role::Reader | Role::Operator) {
            value.refuse(format!(
                "the token of {} has the role {}, which means nothing here; use reader or operator",
                token.name, token.role
            ));
        }
    }
    tokens
}

/// `client_roles` of `[admin.tls]`.
fn client_roles(tls: &mut Section<'_>) -> Vec<ClientRole> {
    let Some(written) = tls.value("client_roles") else { return Vec::new() };
    let items = written.items();
    if tls.value("client_ca_file").is_none() {
        written
            .refuse_key("roles are those of certificates; name their authorities in client_ca_file as well");
    }
    if items.len() > MAX_CLIENT_ROLES {
        written.refuse(format!("{} roles are too many; at most {MAX_CLIENT_ROLES}", items.len()));
    }
    items.into_iter().filter_map(Value::section).filter_map(client_role).collect()
}

fn client_role(mut section: Section<'_>) -> Option<ClientRole> {
    let roles = [("reader", Role::Reader), ("operator", Role::Operator)];
    let role = section.required("role", "role = \"reader\"").and_then(|value| value.choice("a role", &roles));
    let sha256 = optional(&mut section, "sha256", |value| value.parse(fingerprint));
    let subject = optional(&mut section, "subject", Value::string);
    let certificate = match (sha256, subject) {
        (Some(sha256), None) => Some(CertificateId::Sha256(sha256)),
        (None, Some(subject)) => Some(CertificateId::Subject(subject.to_owned())),
        _ => {
            section.refuse("say whose it is by one of both, like subject = \"CN=li.wei,O=Example\" or sha256 = \"9f86d0…\"");
            None
        }
    };
    section.finish();
    Some(ClientRole { certificate: certificate?, role: role? })
}

/// As `openssl x509 -fingerprint -sha256` and others write it, with colons or without.
fn fingerprint(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|char| *char != ':').collect::<String>().to_ascii_lowercase();
    if digits.len() == 64 && digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        Ok(digits)
    } else {
        Err(format!("{text:?} is no SHA-256; write its 64 hexadecimal digits"))
    }
}

/// `tls` of an API; what is wrong with it is recorded.
pub(super) fn api_tls(mut section: Section<'_>) -> Option<ApiTls> {
    let cert = section.required("cert", "cert = \"certs/api.crt\"").and_then(|value| value.path());
    let key = section.required("key", "key = \"certs/api.key\"").and_then(|value| value.path());
    let clients = client_authorities(&mut section);
    section.finish();
    Some(ApiTls { cert: cert?, key: key?, clients })
}

/// `client_ca_file`, `client_crl_file`
pub(super) fn client_authorities(section: &mut Section<'_>) -> Option<ClientAuthorities> {
    let ca_file = optional(section, "client_ca_file", Value::path);
    let crl = section.value("client_crl_file");
    if let (Some(crl), None) = (&crl, &ca_file) {
        crl.refuse_key("it revokes certificates of client_ca_file; name that as well");
    }
    Some(ClientAuthorities { ca_file: ca_file?, crl_file: crl.and_then(|value| value.path()) })
}

/// `[site.client_certificates]`
pub(super) fn client_certificates(mut section: Section<'_>) -> Option<ClientCertificates> {
    let example = "ca_file = \"certs/customers-ca.pem\"";
    let ca_file = section.required("ca_file", example).and_then(|value| value.path());
    let crl_file = optional(&mut section, "crl_file", Value::path);
    let demands = [("required", Demand::Required), ("optional", Demand::Optional)];
    let demand = optional(&mut section, "demand", |value| value.choice("a demand", &demands));
    section.finish();
    let authorities = ClientAuthorities { ca_file: ca_file?, crl_file };
    Some(ClientCertificates { authorities, demand: demand.unwrap_or(Demand::Required) })
}

/// Refuses an address that other machines reach where callers show neither a token nor a certificate.
pub(super) fn refuse_open(
    value: Option<&Value<'_>>,
    address: Option<SocketAddr>,
    (is_guarded, tls): (bool, Option<&Option<ApiTls>>),
    example: &str,
) {
    let (Some(value), Some(address)) = (value, address) else { return };
    // A section that is wrong has said so already.
    let asks_for_certificates = tls.is_some_and(|tls| tls.as_ref().is_none_or(|tls| tls.clients.is_some()));
    if !address.ip().is_loopback() && !is_guarded && !asks_for_certificates {
        value.refuse(format!(
            "{address} is not on loopback, so callers must show a token or a certificate; add token_file = {example:?}, \
             or tls with client_ca_file, or listen on 127.0.0.1"
        ));
    }
}
