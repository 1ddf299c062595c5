//! Looks at every service at once, each with a time limit.

use crate::config::{Plan, PlannedRoute, PlannedService, nearest};
use crate::ground;
use crate::run::log_dir;
use crate::verify;
use futures::future::join_all;
use rowcast_core::{
    Diagnose, Finding, LogError, Offer, ProjectError, Projection, Schema, ServiceName, Severity,
    Shape, SinkError,
};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What was found at one service, or on this machine.
pub(super) struct Section {
    /// `None` for the machine itself.
    pub(super) service: Option<ServiceName>,
    pub(super) address: String,
    pub(super) findings: Vec<Finding>,
}

/// What a publisher would give.
type Offers = HashMap<ServiceName, Offer>;

/// Everything, in the file's order.
pub(super) async fn look(plan: &Plan, within: Duration) -> Vec<Section> {
    let publishers = plan.services.iter().map(|service| async move {
        let looked = tokio::time::timeout(within, look_at_source(service)).await;
        looked.unwrap_or_else(|_| (vec![late(&service.database.address(), within)], None))
    });
    let mut sections = vec![here(plan)];
    let mut offers = Offers::new();
    for (service, (findings, given)) in plan.services.iter().zip(join_all(publishers).await) {
        offers.extend(given.map(|g| (service.name.clone(), g)));
        let (name, address) = (service.name.clone(), service.database.address());
        sections.push(Section { service: Some(name), address, findings });
    }
    let log = log_dir(plan);
    let routes = plan.routes.iter().map(|route| async {
        let looked = tokio::time::timeout(within, look_at_sink(route, &offers, &log)).await;
        looked.unwrap_or_else(|_| vec![late(&route.database.address(), within)])
    });
    for (route, findings) in plan.routes.iter().zip(join_all(routes).await) {
        if let Some(section) =
            sections.iter_mut().find(|s| s.service.as_ref() == Some(&route.sink.route.to))
        {
            section.findings.extend(findings);
        }
    }
    sections
}

/// What `run` needs of this machine.
fn here(plan: &Plan) -> Section {
    let findings = ground::look(plan).into_iter();
    let findings = findings.map(|f| f.unwrap_or_else(|failure| failure.finding("rowcast.toml")));
    Section {
        service: None,
        address: plan.data.display().to_string(),
        findings: findings.collect(),
    }
}

fn late(address: &str, within: Duration) -> Finding {
    Finding::new(
        Severity::Error,
        address,
        format!("does not answer within {within:?}"),
        "is the database running and not overloaded? `--timeout` allows more time",
    )
}

async fn look_at_source(service: &PlannedService) -> (Vec<Finding>, Option<Offer>) {
    let Some(spec) = &service.source else {
        return (service.database.left_behind(&service.name).await, None);
    };
    let mut findings = service.database.check_source(spec).await;
    match service.database.offer(spec).await {
        Ok(offer) => (findings, Some(offer)),
        Err(e) => {
            // What makes this fail is mostly a finding already.
            if !findings.iter().any(|f| f.severity == Severity::Error) {
                let subject = service.database.address();
                findings.push(Finding::new(Severity::Error, subject, chain(&e), e.help()));
            }
            (findings, None)
        }
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn Diagnose) -> String {
    rowcast_engine::TroubleReport::of(error).line()
}

async fn look_at_sink(route: &PlannedRoute, offers: &Offers, log: &Path) -> Vec<Finding> {
    let id = &route.sink.route;
    let Some(Offer { schemas: given, listed }) = offers.get(&id.from) else {
        // Its own database can be looked at all the same.
        let mut findings = route.database.check_sink(&route.sink, &[], &[]).await;
        findings.extend(of_another_log(route, log).await);
        findings.push(Finding::new(
            Severity::Warning,
            id.to_string(),
            format!("not looked at: {} cannot say what it would publish", id.from),
            format!("mend what is wrong at {} first", id.from),
        ));
        return findings;
    };
    let mut findings = Vec::new();
    let mut shapes: Vec<Arc<Shape>> = Vec::new();
    let subscriptions = route.sink.subscriptions.clone();
    for (_, schema) in given {
        let of_entity = subscriptions.iter().filter(|s| s.entity == schema.entity).cloned();
        let mut projection = Projection::new(id.from.clone(), id.to.clone(), of_entity.collect());
        match projection.shapes(schema) {
            Ok(made) => shapes.extend(made.into_iter().map(|shape| reindexed(shape, route))),
            Err(e) => findings.push(unfit(&e, schema)),
        }
    }
    for subscription in &subscriptions {
        if !given.iter().any(|(entity, _)| *entity == subscription.entity) {
            findings.push(Finding::new(
                Severity::Warning,
                format!("{}.{}", id.from, subscription.entity),
                "not looked at: it cannot be published as it is",
                format!("mend what is wrong at {} first", id.from),
            ));
        }
    }
    findings.extend(route.database.check_sink(&route.sink, &shapes, listed).await);
    findings.extend(of_another_log(route, log).await);
    findings.extend((route.lanes > 1).then(|| in_lanes(route)));
    findings
}

/// A checkpoint that the log below `root` has not written. Where there is no log yet, perhaps because
/// it is another machine's, there is nothing to compare; a target that cannot be asked is a finding
/// already.
async fn of_another_log(route: &PlannedRoute, root: &Path) -> Option<Finding> {
    let id = &route.sink.route;
    let (found, checkpoint) = route.database.copy_view(id).look().await.ok()??;
    // Only after the target: a running instance moves both, this one first.
    let error: Box<dyn Diagnose> = match verify::tail(root, &id.from).await {
        Ok(Some((log, _))) if log != found => {
            let help = "name the configuration file whose data directory wrote this copy; `rowcast run` \
                        says how to have it built anew from this one";
            Box::new(SinkError::other_log(id.clone(), found, log, help))
        }
        Ok(Some((_, next))) if checkpoint.next > next => {
            Box::new(LogError::Ahead { stream: id.from.clone(), at: checkpoint.next, next })
        }
        Ok(_) => return None,
        Err(e) => {
            let what = format!("its checkpoint was not compared with the log: {}", chain(&e));
            return Some(Finding::new(Severity::Warning, id.to_string(), what, e.help()));
        }
    };
    Some(Finding::new(Severity::Error, id.to_string(), chain(&*error), error.help()))
}

/// What several lanes give up.
fn in_lanes(route: &PlannedRoute) -> Finding {
    let (id, lanes) = (&route.sink.route, route.lanes);
    let what = format!("{lanes} lanes: a transaction of {} may be seen in parts", id.from);
    Finding::new(Severity::Good, id.to_string(), what, "")
}

/// A shape that was made for one entity alone speaks of that entity's subscriptions; say which one
/// of the whole route's it is.
fn reindexed(shape: Arc<Shape>, route: &PlannedRoute) -> Arc<Shape> {
    let of_entity = route.sink.subscriptions.iter().enumerate();
    let mut of_entity = of_entity.filter(|(_, s)| s.entity == shape.entity);
    let place = of_entity.nth(shape.subscription).map_or(shape.subscription, |(i, _)| i);
    Arc::new(Shape { subscription: place, ..Shape::clone(&shape) })
}

fn unfit(error: &ProjectError, schema: &Schema) -> Finding {
    let mut help = error.help().to_string();
    if let ProjectError::NoField { field, .. } = error {
        let names = schema.columns.iter().map(|c| c.name.as_str());
        if let Some(near) = nearest(field, names) {
            help = format!("did you mean `{near}`?");
        }
    }
    Finding::new(Severity::Error, schema.entity.as_str(), error.to_string(), help)
}
