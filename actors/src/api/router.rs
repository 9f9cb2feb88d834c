//! Builds the router out of the table of routes: what is not in the table is not served.

use actix_web::http::Method as HttpMethod;
use actix_web::{HttpRequest, Resource, web};
use forebay_schemas::problem;
use forebay_schemas::routes::{ROUTES, Route};

use super::error::ApiError;
use super::extract::pattern;
use super::{Answer, actors, batches, events, health, logs, meta, metrics, pipelines, plans, records, runs, snapshot, topics};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    let mut paths: Vec<&str> = Vec::new();
    for route in ROUTES {
        if !paths.contains(&route.path) {
            paths.push(route.path);
        }
    }
    for path in paths {
        let resource: Resource = web::resource(pattern(path));
        let resource = of_path(path).fold(resource, |resource, route| resource.route(handler(route)));
        config.service(resource.default_service(web::to(wrong_method)));
    }
    config.default_service(web::to(nothing_here));
}

fn of_path(path: &str) -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(move |route| route.path == path)
}

/// The handler of a route.
fn handler(route: &Route) -> actix_web::Route {
    let method = HttpMethod::from_bytes(route.method.name().as_bytes()).expect("the table has methods of HTTP");
    let to = web::method(method);
    match route.operation {
        "requestRun" => to.to(runs::request),
        "listRuns" => to.to(runs::list),
        "getRun" => to.to(runs::get),
        "cancelRun" => to.to(runs::cancel),
        "listPipelines" => to.to(pipelines::list),
        "getPipeline" => to.to(pipelines::get),
        "setState" => to.to(pipelines::set_state),
        "makePlan" => to.to(plans::make),
        "applyPlan" => to.to(plans::apply),
        "listCursors" => to.to(runs::cursors),
        "getSnapshot" => to.to(snapshot::snapshot),
        "followEvents" => to.to(events::follow),
        "listBatches" => to.to(batches::batches),
        "getBatch" => to.to(batches::batch),
        "listTopics" => to.to(topics::topics),
        "listActors" => to.to(actors::actors),
        "restartActor" => to.to(actors::restart),
        "readRecords" => to.to(records::records),
        "readDeadLetters" => to.to(records::dead_letters),
        "readLogs" => to.to(logs::logs),
        "listAlerts" => to.to(snapshot::alerts),
        "getVersion" => to.to(meta::version),
        "whoAmI" => to.to(meta::who_am_i),
        "healthz" => to.to(health::healthz),
        "readyz" => to.to(health::readyz),
        "metrics" => to.to(metrics::metrics),
        "openapi" => to.to(health::openapi),
        other => unreachable!("the operation {other} is in the table and has no handler; a test builds the router"),
    }
}

async fn wrong_method(request: HttpRequest) -> Answer {
    let matched = request.match_pattern().unwrap_or_default();
    let methods: Vec<_> = ROUTES.iter().filter(|route| pattern(route.path) == matched).map(|route| route.method.name()).collect();
    let methods = methods.join(", ");
    Err(ApiError::new(&problem::METHOD, format!("{} takes {methods}, not {}", request.path(), request.method())).allow(methods))
}

async fn nothing_here(request: HttpRequest) -> Answer {
    Err(ApiError::new(&problem::PATH_UNKNOWN, format!("no {} {} here", request.method(), request.path())))
}
