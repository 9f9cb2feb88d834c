//! Builds the router from the table of routes. Nothing else is served.

use actix_web::http::Method as HttpMethod;
use actix_web::{HttpRequest, Resource, web};
use forebay_schemas::problem;
use forebay_schemas::routes::{ROUTES, Route};

use super::error::ApiError;
use super::extract::pattern;
use super::{
    ApiResult, actors, batches, dead_letters, events, health, kafka_records, logs, metrics, operation_plans, pipelines, runs, snapshot,
    topics, version,
};

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
    config.default_service(web::to(unknown_path));
}

fn of_path(path: &str) -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(move |route| route.path == path)
}

/// The handler of a route.
fn handler(route: &Route) -> actix_web::Route {
    let method = HttpMethod::from_bytes(route.method.name().as_bytes()).expect("the table has HTTP methods");
    let to = web::method(method);
    match route.operation {
        "requestRun" => to.to(runs::request),
        "listRuns" => to.to(runs::list),
        "getRun" => to.to(runs::get),
        "cancelRun" => to.to(runs::cancel),
        "listPipelines" => to.to(pipelines::list),
        "getPipeline" => to.to(pipelines::get),
        "setState" => to.to(pipelines::set_state),
        "makePlan" => to.to(operation_plans::make),
        "applyPlan" => to.to(operation_plans::apply),
        "listCursors" => to.to(runs::cursors),
        "getSnapshot" => to.to(snapshot::snapshot),
        "followEvents" => to.to(events::follow),
        "listBatches" => to.to(batches::batches),
        "getBatch" => to.to(batches::batch),
        "listTopics" => to.to(topics::topics),
        "listActors" => to.to(actors::actors),
        "restartActor" => to.to(actors::restart),
        "readRecords" => to.to(kafka_records::records),
        "readDeadLetters" => to.to(dead_letters::list),
        "countDeadLetters" => to.to(dead_letters::reasons),
        "readLogs" => to.to(logs::logs),
        "listAlerts" => to.to(snapshot::alerts),
        "getVersion" => to.to(version::version),
        "whoAmI" => to.to(version::who_am_i),
        "healthz" => to.to(health::healthz),
        "readyz" => to.to(health::readyz),
        "metrics" => to.to(metrics::metrics),
        "openapi" => to.to(health::openapi),
        other => unreachable!("operation {other} has no handler; a test builds the router"),
    }
}

async fn wrong_method(request: HttpRequest) -> ApiResult {
    let matched = request.match_pattern().unwrap_or_default();
    let methods: Vec<_> = ROUTES.iter().filter(|route| pattern(route.path) == matched).map(|route| route.method.name()).collect();
    let methods = methods.join(", ");
    Err(ApiError::new(&problem::METHOD, format!("{} allows {methods}, not {}", request.path(), request.method())).allow(methods))
}

async fn unknown_path(request: HttpRequest) -> ApiResult {
    Err(ApiError::new(&problem::PATH_UNKNOWN, format!("there is no route {} {}", request.method(), request.path())))
}
