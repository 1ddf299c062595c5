//! Who asks, and what they may do. The one match over roles is [`Caller::may`].

mod origin;
mod token;

pub(crate) use origin::same_place;
pub use token::{TokenDigest, TokenError, new_token};

use crate::api::Api;
use crate::problem::Problem;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use rowcast_core::{EntityName, RouteId, ServiceName};
use rowcast_engine::Board;
use std::sync::Arc;
use subtle::{Choice, ConditionallySelectable};
use tokio::sync::watch;

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// What concerns the subscriptions of one service: its routes' status, waiting for them, and the
    /// events that they carry.
    Subscriber(ServiceName),
    /// Status, metrics and waiting; no events, because they hold values.
    Reader,
}

/// One token and what it allows.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Whose it is; shown in logs.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The token's digest.
    pub token: TokenDigest,
}

/// Who may ask. Clones are one: what [`replace`](Self::replace) changes, it changes for all, also for
/// whoever follows events already.
#[derive(Debug, Clone)]
pub struct Access(Arc<watch::Sender<Arc<[Grant]>>>);

impl Access {
    /// Everybody who reaches us. Only for loopback: requests that a page elsewhere made a browser
    /// send are refused, all others are allowed everything.
    pub fn open() -> Self {
        Self::of(Vec::new())
    }

    /// Whoever holds one of these tokens; nobody when there are none.
    ///
    /// # Panics
    /// Without a grant: that would open the door.
    pub fn tokens(grants: Vec<Grant>) -> Self {
        assert!(!grants.is_empty(), "access by tokens needs a token");
        Self::of(grants)
    }

    fn of(grants: Vec<Grant>) -> Self {
        Self(Arc::new(watch::Sender::new(grants.into())))
    }

    /// From now on these grants and no others count; none at all opens the door, as
    /// [`open`](Self::open) does.
    pub fn replace(&self, grants: Vec<Grant>) {
        self.0.send_replace(grants.into());
    }

    /// Sees every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<[Grant]>> {
        self.0.subscribe()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Compares with every grant in full, so that time tells nothing.
    fn holder(&self, digest: TokenDigest) -> Option<Caller> {
        let grants = self.0.borrow();
        let mut found = u32::MAX;
        for (index, grant) in (0u32..).zip(grants.iter()) {
            let same: Choice = grant.token.same(&digest);
            found = u32::conditional_select(&found, &index, same);
        }
        let grant = grants.get(usize::try_from(found).ok()?)?;
        Some(Caller { name: grant.name.clone(), role: grant.role.clone(), token: Some(digest) })
    }

    /// The same caller after the grants changed: with what its token allows now, or refused.
    pub(crate) fn again(&self, caller: &Caller) -> Result<Caller, Problem> {
        if self.is_open() {
            return Ok(Caller::anybody());
        }
        let Some(token) = caller.token else { return Err(refused("a token is needed now")) };
        self.holder(token).ok_or_else(|| refused("this token was taken back"))
    }

    /// Resolves once the caller may not do it any more, because the tokens were replaced. Whoever
    /// waits in one long request listens to it. Cancel safe.
    pub(crate) async fn ended(&self, caller: &Caller, deed: Deed<'_>) -> Problem {
        let mut changes = self.changes();
        loop {
            // Looked at before the first change, too: it may have come since the token was shown.
            if let Err(problem) = self.again(caller).and_then(|caller| caller.may(deed)) {
                return problem;
            }
            changes.changed().await.expect("the tokens' sender is part of `self`");
        }
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.is_open() {
            return Ok(Caller::anybody());
        }
        let header = headers.get(AUTHORIZATION).ok_or_else(|| refused("a token is needed"))?;
        let text = header.to_str().unwrap_or_default();
        let (scheme, token) = text.split_once(' ').unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused("only bearer tokens are understood"));
        }
        self.holder(TokenDigest::of(token.trim())).ok_or_else(|| refused("this token is not known"))
    }
}

fn refused(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
        .help("send `Authorization: Bearer TOKEN` with a token of `[server] tokens`")
}

/// Something that a request does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed<'a> {
    /// Look at services and routes; a subscriber sees its own part.
    SeeStatus,
    /// Look at the metrics of everything.
    SeeMetrics,
    /// List a route's parked keys, without values.
    ListParked(&'a RouteId),
    /// Wait for a route.
    Wait(&'a RouteId),
    /// Read events of this service, with values; a subscriber those that its route carries.
    ReadEvents(&'a ServiceName),
    /// Read the pending rows of a route's parked keys.
    ReadParked(&'a RouteId),
    /// Try a route's parked keys again, or give up their pending rows.
    ChangeParked(&'a RouteId),
    /// See who subscribes to what.
    SeeSubscriptions,
    /// Change what this service subscribes to, or stop its routes.
    ManageSubscriptions(&'a ServiceName),
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    name: String,
    role: Role,
    /// What it showed; nothing when nobody had to.
    token: Option<TokenDigest>,
}

impl Caller {
    /// Whoever asks where there are no tokens.
    fn anybody() -> Self {
        Self { name: "anybody".into(), role: Role::Admin, token: None }
    }

    /// Whether the caller may do it; a problem when not.
    pub(crate) fn may(&self, deed: Deed<'_>) -> Result<(), Problem> {
        let allowed = match (&self.role, deed) {
            (Role::Admin, _) => true,
            (Role::Subscriber(_), Deed::SeeStatus | Deed::ReadEvents(_)) => true,
            (
                Role::Subscriber(own),
                Deed::Wait(route)
                | Deed::ListParked(route)
                | Deed::ReadParked(route)
                | Deed::ChangeParked(route),
            ) => route.to == *own,
            (Role::Subscriber(_), Deed::SeeMetrics) => false,
            (Role::Reader, Deed::SeeStatus | Deed::SeeMetrics) => true,
            (Role::Reader, Deed::Wait(_) | Deed::ListParked(_)) => true,
            (Role::Subscriber(_), Deed::SeeSubscriptions) => true,
            (Role::Subscriber(own), Deed::ManageSubscriptions(to)) => to == own,
            (Role::Reader, Deed::SeeSubscriptions) => true,
            (Role::Reader, Deed::ReadEvents(_) | Deed::ManageSubscriptions(_)) => false,
            (Role::Reader, Deed::ReadParked(_) | Deed::ChangeParked(_)) => false,
        };
        if allowed {
            return Ok(());
        }
        tracing::debug!("{} may not {deed:?}", self.name);
        Err(self.refusal(match deed {
            Deed::SeeStatus => "see the status".into(),
            Deed::SeeMetrics => "see the metrics".into(),
            Deed::Wait(route) => format!("wait for route {route}"),
            Deed::ListParked(route) => format!("list what is parked on {route}"),
            Deed::ReadEvents(service) => format!("read events of {service}"),
            Deed::ReadParked(route) => format!("read parked rows of {route}"),
            Deed::ChangeParked(route) => format!("change what is parked on {route}"),
            Deed::SeeSubscriptions => "see the subscriptions".into(),
            Deed::ManageSubscriptions(to) => format!("change what {to} subscribes to"),
        }))
    }

    fn refusal(&self, what: String) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, format!("the token `{}` may not {what}", self.name))
    }

    /// The service to whose subscriptions the caller is limited; `None` for no limit.
    pub(crate) fn limited_to(&self) -> Option<&ServiceName> {
        match &self.role {
            Role::Subscriber(own) => Some(own),
            Role::Admin | Role::Reader => None,
        }
    }

    /// The entities of `service` whose events the caller may read; `None` for all. Asked anew now
    /// and then, because subscriptions change while a stream is followed.
    pub(crate) fn readable(
        &self,
        board: &Board,
        service: &ServiceName,
    ) -> Result<Option<Vec<EntityName>>, Problem> {
        self.may(Deed::ReadEvents(service))?;
        let Some(own) = self.limited_to() else { return Ok(None) };
        let route = RouteId { from: service.clone(), to: own.clone() };
        let refused =
            || self.refusal(format!("read events of {service}: {own} does not subscribe"));
        board.carried(&route).map(Some).ok_or_else(refused)
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        api.access.caller(&parts.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(name: &str, role: Role) -> (String, Grant) {
        let token = new_token();
        let digest = TokenDigest::of(&token);
        (token, Grant { name: name.into(), role, token: digest })
    }

    fn asking(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    #[test]
    fn each_token_is_its_holder_and_no_other_token_is_anybody() {
        let (ops, ops_grant) = grant("ops", Role::Admin);
        let (board, board_grant) = grant("dashboard", Role::Reader);
        let access = Access::tokens(vec![ops_grant, board_grant]);
        assert_eq!(access.caller(&asking(&format!("Bearer {ops}"))).unwrap().name, "ops");
        let caller = access.caller(&asking(&format!("bearer  {board}"))).unwrap();
        assert_eq!((caller.name.as_str(), &caller.role), ("dashboard", &Role::Reader));
        for wrong in ["", "Bearer", "Bearer ", &format!("Bearer {ops}x"), &format!("Basic {ops}")] {
            assert!(access.caller(&asking(wrong)).is_err(), "{wrong}");
        }
        assert!(access.caller(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_role_allows_what_the_manual_says() {
        let caller = |role| Caller { name: "x".into(), role, token: None };
        let (own, other) = ("shop:order".parse().unwrap(), "shop:billing".parse().unwrap());
        let shop = "shop".parse().unwrap();
        let deeds = [
            Deed::SeeStatus,
            Deed::SeeMetrics,
            Deed::Wait(&own),
            Deed::Wait(&other),
            Deed::ListParked(&own),
            Deed::ListParked(&other),
            Deed::ReadEvents(&shop),
            Deed::ReadParked(&own),
            Deed::ReadParked(&other),
            Deed::ChangeParked(&own),
            Deed::ChangeParked(&other),
        ];
        let allowed = |role| {
            let caller = caller(role);
            deeds.map(|deed| caller.may(deed).is_ok())
        };
        assert_eq!(allowed(Role::Admin), [true; 11]);
        assert_eq!(
            allowed(Role::Subscriber("order".parse().unwrap())),
            [true, false, true, false, true, false, true, true, false, true, false]
        );
        assert_eq!(
            allowed(Role::Reader),
            [true, true, true, true, true, true, false, false, false, false, false]
        );
    }
}
