//! Where mail goes, as the pods are told.
//!
//! A rate is meant for all replicas together. Each is told its part, so that the file differs when the number of replicas does; pods
//! take it up without a restart.

use std::path::PathBuf;

use ipnet::IpNet;
use jiff::Timestamp;
use postroad_api as api;
use postroad_config as config;

use super::{invalid, size};
use crate::controller::validate::Refusal;
use crate::names::{KEY_AUTHORITY, KEY_PASSWORD, KEY_USERNAME, PATH_UPSTREAMS};

/// What the pods are told; `replicas` share what all of them together may do.
pub(super) fn render(delivery: &api::Delivery, replicas: u32) -> Result<config::Delivery, Refusal> {
    let api::Delivery {
        upstreams,
        routes,
        direct,
        overrides,
        retry,
    } = delivery;
    let default_route = if upstreams.is_empty() && direct.is_some() {
        config::Target::Direct
    } else {
        config::Target::default()
    };
    Ok(config::Delivery {
        upstreams: each(upstreams, |found| upstream(found, replicas))?,
        routes: each(routes, route)?,
        default_route,
        direct: direct.as_ref().map_or_else(
            || Ok(config::Direct::default()),
            |found| directly(found, replicas),
        )?,
        overrides: each(overrides, treated_apart)?,
        retry: again(retry),
    })
}

fn each<T, U>(items: &[T], one: impl Fn(&T) -> Result<U, Refusal>) -> Result<Vec<U>, Refusal> {
    items.iter().map(one).collect()
}

fn upstream(upstream: &api::Upstream, replicas: u32) -> Result<config::Upstream, Refusal> {
    let folder = PathBuf::from(PATH_UPSTREAMS).join(&upstream.name);
    Ok(config::Upstream {
        name: upstream.name.clone(),
        host: upstream.host.clone(),
        port: upstream.port,
        tls: match upstream.tls_mode() {
            api::UpstreamTlsMode::Disabled => config::UpstreamTls::Disabled,
            api::UpstreamTlsMode::Opportunistic => config::UpstreamTls::Opportunistic,
            api::UpstreamTlsMode::Required => config::UpstreamTls::Required,
            api::UpstreamTlsMode::Implicit => config::UpstreamTls::Implicit,
        },
        ca: upstream
            .ca_secret()
            .map(|_| folder.join("ca").join(KEY_AUTHORITY)),
        auth: upstream.login_secret().map(|_| config::UpstreamAuth {
            username: folder.join("login").join(KEY_USERNAME),
            password: folder.join("login").join(KEY_PASSWORD),
        }),
        limits: upstream_limits(upstream.limits.as_ref(), replicas)?,
    })
}

fn upstream_limits(
    written: Option<&api::UpstreamLimits>,
    replicas: u32,
) -> Result<config::UpstreamLimits, Refusal> {
    let default = config::UpstreamLimits::default();
    let Some(api::UpstreamLimits {
        connections,
        messages_per_connection,
        recipients_per_message,
        rate,
        message_size,
    }) = written
    else {
        return Ok(default);
    };
    let bytes = |text: &String| size("delivery.upstreams[].limits.messageSize", text);
    Ok(config::UpstreamLimits {
        connections: connections.unwrap_or(default.connections),
        messages_per_connection: messages_per_connection.unwrap_or(default.messages_per_connection),
        recipients_per_message: recipients_per_message.unwrap_or(default.recipients_per_message),
        rate: rate.map(|rate| part(rate, replicas)),
        message_bytes: message_size.as_ref().map(bytes).transpose()?,
    })
}

/// What one of so many replicas may do of what all may.
fn part(rate: api::Rate, replicas: u32) -> config::Rate {
    let api::Rate { messages, per } = rate;
    let all = config::Rate {
        messages,
        per_seconds: per.seconds(),
    };
    all.divided(replicas)
}

fn directly(direct: &api::Direct, replicas: u32) -> Result<config::Direct, Refusal> {
    let api::Direct {
        tls,
        ip_families,
        allowed_networks,
        limits,
    } = direct;
    let default = config::Direct::default();
    let mode = tls.as_ref().and_then(|tls| tls.mode);
    let families = ip_families.as_ref().map(|families| {
        let family = |family: &api::IpFamily| match family {
            api::IpFamily::Ipv4 => config::IpFamily::Ipv4,
            api::IpFamily::Ipv6 => config::IpFamily::Ipv6,
        };
        families.iter().map(family).collect()
    });
    Ok(config::Direct {
        tls: mode.map_or(default.tls, |mode| match mode {
            api::DirectTlsMode::Opportunistic => config::DirectTls::Opportunistic,
            api::DirectTlsMode::Disabled => config::DirectTls::Disabled,
            api::DirectTlsMode::Required => config::DirectTls::Required,
        }),
        families: families.unwrap_or(default.families),
        limits: direct_limits(limits.as_ref(), replicas),
        port: default.port,
        nameservers: default.nameservers,
        allowed_networks: each(allowed_networks, private_network)?,
    })
}

fn private_network(network: &api::PrivateNetwork) -> Result<IpNet, Refusal> {
    let api::PrivateNetwork(text) = network;
    text.parse().map_err(|_| {
        invalid(format!(
            "delivery.direct.allowedNetworks: {text:?} is no network in CIDR notation such as 10.1.0.0/16"
        ))
    })
}

fn direct_limits(written: Option<&api::DirectLimits>, replicas: u32) -> config::DirectLimits {
    let default = config::DirectLimits::default();
    let Some(api::DirectLimits {
        connections,
        messages_per_connection,
        recipients_per_message,
        rate,
    }) = written
    else {
        return default;
    };
    config::DirectLimits {
        connections: connections.unwrap_or(default.connections),
        messages_per_connection: messages_per_connection.unwrap_or(default.messages_per_connection),
        recipients_per_message: recipients_per_message.unwrap_or(default.recipients_per_message),
        rate: rate.map(|rate| part(rate, replicas)),
    }
}

fn route(route: &api::Route) -> Result<config::Route, Refusal> {
    let api::Route { name, matches, to } = route;
    let api::Target { upstreams, direct } = to;
    let to = match (upstreams, direct) {
        (Some(names), None | Some(false)) if !names.is_empty() => {
            config::Target::Upstreams(names.clone())
        }
        (None, Some(true)) => config::Target::Direct,
        _ => {
            return Err(invalid(format!(
                "route {name:?}: to has to name upstreams, or to say direct: true"
            )));
        }
    };
    Ok(config::Route {
        name: name.clone(),
        matches: choice(matches.as_ref())?,
        to,
    })
}

fn choice(written: Option<&api::Match>) -> Result<config::Match, Refusal> {
    let Some(api::Match {
        senders,
        recipients,
        credentials,
    }) = written
    else {
        return Ok(config::Match::default());
    };
    Ok(config::Match {
        senders: patterns(senders.as_deref())?,
        recipients: patterns(recipients.as_deref())?,
        credentials: credentials
            .iter()
            .flatten()
            .map(|api::UserName(name)| name.clone())
            .collect(),
    })
}

fn patterns(written: Option<&[api::DomainPattern]>) -> Result<Vec<config::Pattern>, Refusal> {
    let parse = |api::DomainPattern(text): &api::DomainPattern| {
        let pattern = text.parse();
        pattern.map_err(|error: config::Error| invalid(error.to_string()))
    };
    each(written.unwrap_or_default(), parse)
}

fn treated_apart(written: &api::Override) -> Result<config::Override, Refusal> {
    let api::Override {
        name,
        action,
        matches,
        arrived_before,
        reason,
    } = written;
    let time = |text: &String| match text.parse::<Timestamp>() {
        Ok(time) => Ok(time.as_second()),
        Err(_) => Err(invalid(format!(
            "override {name:?}: arrivedBefore is no time such as 2027-01-15T08:00:00Z"
        ))),
    };
    Ok(config::Override {
        name: name.clone(),
        matches: choice(matches.as_ref())?,
        arrived_before: arrived_before.as_ref().map(time).transpose()?,
        action: match action {
            api::OverrideAction::Hold => config::Action::Hold,
            api::OverrideAction::Flush => config::Action::Flush,
            api::OverrideAction::Bounce => config::Action::Bounce {
                reason: reason.clone().unwrap_or_default(),
            },
        },
    })
}

fn again(retry: &api::Retry) -> config::Retry {
    let api::Retry {
        initial_seconds,
        maximum_seconds,
        lifetime_seconds,
        delay_warning_seconds,
        sender_hold_seconds,
    } = *retry;
    config::Retry {
        initial_seconds: initial_seconds.into(),
        maximum_seconds: maximum_seconds.into(),
        lifetime_seconds: lifetime_seconds.into(),
        delay_warning_seconds: (delay_warning_seconds > 0).then_some(delay_warning_seconds.into()),
        sender_hold_seconds: sender_hold_seconds.map(u64::from),
    }
}
