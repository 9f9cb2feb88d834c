//! The router against the table of routes. `tests/api.rs` tests the responses of the whole program.

use actix_web::http::header;
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use actix_web::{App, http::Method};
use forebay_schemas::routes::ROUTES;
use forebay_schemas::run::Problem;

use super::router;

/// A path with `x` for each parameter.
fn filled(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/")
}

#[actix_web::test]
async fn every_path_of_the_table_is_served_with_the_methods_of_the_table() {
    // Building it panics when an operation has no handler.
    let app = init_service(App::new().configure(router::configure)).await;
    for route in ROUTES {
        let methods: Vec<_> = ROUTES.iter().filter(|other| other.path == route.path).map(|other| other.method.name()).collect();
        for method in
            ["DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "GET", "PUT", "POST"].into_iter().filter(|name| !methods.contains(name))
        {
            let request = TestRequest::with_uri(&filled(route.path)).method(Method::from_bytes(method.as_bytes()).unwrap());
            let response = call_service(&app, request.to_request()).await;
            assert_eq!(response.status(), 405, "{method} {}", route.path);
            assert_eq!(response.headers().get(header::ALLOW).unwrap(), methods.join(", ").as_str(), "{}", route.path);
            assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), "application/problem+json");
        }
    }
}

#[actix_web::test]
async fn an_unknown_path_is_a_problem_with_a_remedy() {
    let app = init_service(App::new().configure(router::configure)).await;
    for path in ["/", "/v1", "/v1/runs/", "/v1/pipelines/users/runs/", "/v2/runs", "/v1/actors//restart", "/v1/runs/x/y"] {
        let response = call_service(&app, TestRequest::get().uri(path).to_request()).await;
        assert_eq!(response.status(), 404, "{path}");
        let problem: Problem = read_body_json(response).await;
        assert_eq!((problem.kind.as_str(), problem.status), ("path.unknown", 404), "{path}");
        assert!(problem.remedy.contains("/openapi.json"));
    }
}
