//! The API of the demo: it answers on loopback like `https://randomuser.me/api/`.
//!
//! `GET /api/?results=N&page=P&seed=S&inc=name,location` returns `N` people (1 to 5000, default 1).
//! With `page`, the answer depends on the request alone and has an `ETag`. Without it, each request
//! returns the next people of the seed's endless sequence, so that a schedule always finds new
//! ones. An invalid request gets 400 and `{"error": …}`. Options limit the rate (429 with
//! `Retry-After`), make every Nth request fail, and make every Nth person bad.
//!
//! Guarantees:
//! * The same seed gives the same people in the same order.
//!
//! Does not support parameters other than those above; it ignores them.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::http::header::{ETAG, IF_NONE_MATCH, RETRY_AFTER};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::json;

use super::people::{FIELDS, FieldSet, Person, Seed, hash, with_flaw};

/// Maximum number of people on a page, as in the original.
const MAX_RESULTS: u64 = 5_000;
/// Maximum number of seeds whose position is remembered.
const MAX_SEEDS: usize = 1_024;
/// Approximate size of a person in JSON.
const BYTES_PER_PERSON: usize = 1_200;
/// The version of the original that this imitates.
const VERSION: &str = "1.4";

/// A limit on requests per window of time; further ones get 429.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), allow(dead_code, reason = "only tests set a limit"))]
pub(crate) struct RateLimit {
    /// Maximum number of requests in a window.
    pub(crate) requests: u64,
    /// Length of a window.
    pub(crate) window: Duration,
}

/// How the API of the demo behaves.
#[derive(Debug, Clone)]
pub(crate) struct ApiOptions {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub(crate) port: u16,
    /// The seed of requests without one.
    pub(crate) seed: String,
    /// The limit on requests, if any.
    pub(crate) rate_limit: Option<RateLimit>,
    /// Answers every Nth request with 503, if set.
    pub(crate) fail_every: Option<NonZeroU64>,
    /// Makes every Nth person of a seed bad, if set.
    pub(crate) bad_every: Option<NonZeroU64>,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self { port: 0, seed: "forebay".to_owned(), rate_limit: None, fail_every: None, bad_every: None }
    }
}

/// The running API. Dropping it stops the API.
#[derive(Debug)]
pub(crate) struct RunningApi {
    /// The URL without a path, such as `http://127.0.0.1:41555`.
    pub(crate) url: String,
    handle: ServerHandle,
}

impl Drop for RunningApi {
    fn drop(&mut self) {
        // `stop` sends the command at once; its future only waits for the end.
        drop(self.handle.stop(false));
    }
}

/// Starts the API on a thread of its own, whatever runtime the caller has.
///
/// # Errors
/// The port is taken, or no thread can be started.
pub(crate) async fn start(options: ApiOptions) -> io::Result<RunningApi> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
    let url = format!("http://{}", listener.local_addr()?);
    let api = web::Data::new(Api::new(options));
    let (sender, handle) = tokio::sync::oneshot::channel();
    let serve = move || {
        actix_web::rt::System::new().block_on(async move {
            let app = move || {
                let app = App::new().app_data(api.clone());
                app.route("/api/", web::get().to(people)).route("/api", web::get().to(people)).default_service(web::to(not_found))
            };
            let server = HttpServer::new(app).workers(1).disable_signals().listen(listener).map(HttpServer::run);
            let _ = sender
                .send(server.as_ref().map(actix_web::dev::Server::handle).map_err(|error| io::Error::new(error.kind(), error.to_string())));
            // The thread ends with the server; nothing waits for its result.
            if let Ok(server) = server {
                let _ = server.await;
            }
        });
    };
    std::thread::Builder::new().name("demo-api".to_owned()).spawn(serve)?;
    let handle = handle.await.map_err(|_| io::Error::other("the thread of the demo's API has ended"))??;
    Ok(RunningApi { url, handle })
}

/// State that requests share.
struct Api {
    options: ApiOptions,
    state: Mutex<State>,
}

impl Api {
    fn new(options: ApiOptions) -> Self {
        Self { options, state: Mutex::new(State::default()) }
    }
}

/// The number of requests, and the position of each seed in its sequence.
#[derive(Debug, Default)]
struct State {
    requests: u64,
    /// The start of the current window, and the requests in it.
    window: Option<(Instant, u64)>,
    next: HashMap<Arc<str>, u64>,
}

/// Why a request is rejected.
#[derive(Debug, PartialEq, Eq)]
enum Rejection {
    /// The rate limit is exceeded; retry after this many seconds.
    TooMany(u64),
    Unavailable,
    Bad(String),
}

impl State {
    /// Counts a request and applies the limit and the failures.
    fn admit(&mut self, options: &ApiOptions, now: Instant) -> Result<(), Rejection> {
        self.requests += 1;
        if let Some(limit) = options.rate_limit {
            let (since, used) = self.window.filter(|(since, _)| now.saturating_duration_since(*since) < limit.window).unwrap_or((now, 0));
            if used >= limit.requests {
                let left = limit.window.saturating_sub(now.saturating_duration_since(since));
                return Err(Rejection::TooMany(left.as_secs() + u64::from(left.subsec_nanos() > 0)));
            }
            self.window = Some((since, used + 1));
        }
        match options.fail_every {
            Some(every) if self.requests.is_multiple_of(every.get()) => Err(Rejection::Unavailable),
            _ => Ok(()),
        }
    }

    /// Takes the next `results` people of a seed, and returns the index of the first.
    fn take(&mut self, seed: &str, results: u64) -> Result<u64, Rejection> {
        if let Some(next) = self.next.get_mut(seed) {
            let first = *next;
            *next += results;
            return Ok(first);
        }
        if self.next.len() >= MAX_SEEDS {
            return Err(Rejection::Bad(format!("at most {MAX_SEEDS} seeds without a page; set `page`")));
        }
        self.next.insert(seed.into(), results);
        Ok(0)
    }
}

/// The parameters of a request.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    results: u64,
    page: Option<u64>,
    seed: Option<String>,
    fields: FieldSet,
}

fn parse(query: &str) -> Result<Query, String> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query).map_err(|error| format!("invalid query: {error}"))?;
    let mut query = Query { results: 1, page: None, seed: None, fields: FieldSet::ALL };
    let number = |name: &str, text: &str, max: u64| {
        let number = text.parse().ok().filter(|number| (1..=max).contains(number));
        number.ok_or_else(|| format!("`{name}` must be an integer from 1 to {max}, not `{text}`"))
    };
    for (name, value) in pairs.into_inner() {
        match name.as_str() {
            "results" => query.results = number("results", &value, MAX_RESULTS)?,
            "page" => query.page = Some(number("page", &value, u64::from(u32::MAX))?),
            "seed" if value.is_empty() || value.len() > 256 => return Err("`seed` must have 1 to 256 bytes".to_owned()),
            "seed" => query.seed = Some(value),
            "inc" => {
                let unknown = |name: &str| format!("`inc` has `{name}`; the fields are {}", FIELDS.join(", "));
                query.fields = FieldSet::parse(&value).map_err(unknown)?;
            }
            _ => {}
        }
    }
    Ok(query)
}

async fn people(request: HttpRequest, api: web::Data<Api>) -> HttpResponse {
    answer(&request, &api).unwrap_or_else(|refusal| match refusal {
        Rejection::Bad(error) => HttpResponse::BadRequest().json(json!({ "error": error })),
        Rejection::Unavailable => HttpResponse::ServiceUnavailable().json(json!({ "error": "this request fails on purpose" })),
        Rejection::TooMany(seconds) => HttpResponse::TooManyRequests()
            .insert_header((RETRY_AFTER, seconds))
            .json(json!({ "error": format!("too many requests; retry in {seconds} s") })),
    })
}

fn answer(request: &HttpRequest, api: &Api) -> Result<HttpResponse, Rejection> {
    let mut state = api.state.lock();
    state.admit(&api.options, Instant::now())?;
    let query = parse(request.query_string()).map_err(Rejection::Bad)?;
    let seed = query.seed.as_deref().unwrap_or(&api.options.seed);
    let first = match query.page {
        Some(page) => (page - 1) * query.results,
        None => state.take(seed, query.results)?,
    };
    drop(state);
    let tag = query.page.map(|_| format!("\"{:016x}\"", hash(format!("{VERSION} {seed:?} {query:?}").as_bytes())));
    if let Some(tag) = &tag
        && is_cached(request, tag)
    {
        return Ok(HttpResponse::NotModified().insert_header((ETAG, tag.as_str())).finish());
    }
    let body = page(seed, first, &query, api.options.bad_every).map_err(|error| Rejection::Bad(error.to_string()))?;
    let mut response = HttpResponse::Ok();
    if let Some(tag) = tag {
        response.insert_header((ETAG, tag));
    }
    Ok(response.content_type("application/json; charset=utf-8").body(body))
}

/// Whether the client has the page with this `ETag`.
fn is_cached(request: &HttpRequest, tag: &str) -> bool {
    let headers = request.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    headers.flat_map(|value| value.split(',')).map(str::trim).any(|value| value == "*" || value.trim_start_matches("W/") == tag)
}

fn page(seed: &str, first: u64, query: &Query, bad_every: Option<NonZeroU64>) -> serde_json::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(usize::try_from(query.results).unwrap_or(0) * BYTES_PER_PERSON + 128);
    body.extend_from_slice(b"{\"results\":[");
    let ready = Seed::new(seed);
    for index in first..first + query.results {
        if index > first {
            body.push(b',');
        }
        let person = Person::new(ready, index, query.fields);
        match bad_every.filter(|every| (index + 1).is_multiple_of(every.get())) {
            Some(every) => serde_json::to_writer(&mut body, &with_flaw(&person, index / every)?)?,
            None => serde_json::to_writer(&mut body, &person)?,
        }
    }
    body.extend_from_slice(b"],\"info\":");
    let page = first / query.results + 1;
    serde_json::to_writer(&mut body, &json!({ "seed": seed, "results": query.results, "page": page, "version": VERSION }))?;
    body.push(b'}');
    Ok(body)
}

async fn not_found() -> HttpResponse {
    HttpResponse::NotFound().json(json!({ "error": "only GET /api/ exists" }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    async fn get(url: &str) -> (u16, Value) {
        let response = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    fn uuids(answer: &Value) -> Vec<String> {
        answer["results"].as_array().unwrap().iter().map(|person| person["login"]["uuid"].as_str().unwrap().to_owned()).collect()
    }

    async fn running(options: ApiOptions) -> (RunningApi, String) {
        let api = start(options).await.unwrap();
        let url = format!("{}/api/", api.url);
        (api, url)
    }

    #[tokio::test]
    async fn a_page_has_one_answer_and_pages_do_not_overlap() {
        let (_api, url) = running(ApiOptions::default()).await;
        let (status, first) = get(&format!("{url}?results=50&page=1&seed=abc")).await;
        assert_eq!(status, 200);
        assert_eq!(first["info"], json!({ "seed": "abc", "results": 50, "page": 1, "version": "1.4" }));
        assert_eq!(first, get(&format!("{url}?results=50&page=1&seed=abc")).await.1);
        let (_, second) = get(&format!("{url}?results=50&page=2&seed=abc")).await;
        let all: std::collections::HashSet<_> = uuids(&first).into_iter().chain(uuids(&second)).collect();
        assert_eq!(all.len(), 100);
        let (_, both) = get(&format!("{url}?results=100&page=1&seed=abc")).await;
        assert_eq!(uuids(&both), [uuids(&first), uuids(&second)].concat());
    }

    #[tokio::test]
    async fn requests_without_a_page_get_the_next_people_in_page_order() {
        let (_api, url) = running(ApiOptions::default()).await;
        for page in 1..=3 {
            let (_, next) = get(&format!("{url}?results=20")).await;
            assert_eq!(next, get(&format!("{url}?results=20&page={page}&seed=forebay")).await.1);
        }
        let (_, other) = get(&format!("{url}?results=20&seed=other")).await;
        assert_eq!(other["info"]["page"], 1);
    }

    #[tokio::test]
    async fn a_request_with_the_etag_gets_304_without_a_body() {
        let (_api, url) = running(ApiOptions::default()).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let page = format!("{url}?results=5&page=2");
        let tag = client.get(&page).send().await.unwrap().headers()["etag"].clone();
        let again = client.get(&page).header("if-none-match", &tag).send().await.unwrap();
        assert_eq!((again.status().as_u16(), again.headers()["etag"].clone()), (304, tag.clone()));
        assert!(again.bytes().await.unwrap().is_empty());
        let other = client.get(format!("{url}?results=5&page=3")).header("if-none-match", &tag).send().await.unwrap();
        assert_eq!(other.status(), 200);
        let endless = client.get(format!("{url}?results=5")).send().await.unwrap();
        assert!(!endless.headers().contains_key("etag"));
    }

    #[tokio::test]
    async fn an_invalid_request_gets_400_with_what_is_expected() {
        let (_api, url) = running(ApiOptions::default()).await;
        for (query, expected) in [
            ("results=0", "from 1 to 5000, not `0`"),
            ("results=5001", "from 1 to 5000"),
            ("results=ten", "not `ten`"),
            ("page=0&results=1", "`page` must be"),
            ("inc=name,shoe", "`inc` has `shoe`; the fields are gender, name"),
            ("seed=", "1 to 256 bytes"),
        ] {
            let (status, answer) = get(&format!("{url}?{query}")).await;
            assert_eq!(status, 400, "{query}");
            assert!(answer["error"].as_str().unwrap().contains(expected), "{query}: {answer}");
        }
        let (status, answer) = get(&url.replace("/api/", "/people")).await;
        assert_eq!((status, answer["error"].as_str()), (404, Some("only GET /api/ exists")));
    }

    #[tokio::test]
    async fn requests_over_the_limit_get_429_with_retry_after() {
        let limit = RateLimit { requests: 2, window: Duration::from_secs(3_600) };
        let (_api, url) = running(ApiOptions { rate_limit: Some(limit), ..ApiOptions::default() }).await;
        assert_eq!(get(&url).await.0, 200);
        assert_eq!(get(&url).await.0, 200);
        let refused = reqwest::Client::builder().no_proxy().build().unwrap().get(&url).send().await.unwrap();
        assert_eq!(refused.status(), 429);
        let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=3_600).contains(&wait));
    }

    #[test]
    fn the_rate_limit_resets_after_its_window() {
        let limit = RateLimit { requests: 1, window: Duration::from_secs(10) };
        let options = ApiOptions { rate_limit: Some(limit), ..ApiOptions::default() };
        let (mut state, now) = (State::default(), Instant::now());
        assert_eq!(state.admit(&options, now), Ok(()));
        assert_eq!(state.admit(&options, now + Duration::from_millis(2_500)), Err(Rejection::TooMany(8)));
        assert_eq!(state.admit(&options, now + Duration::from_secs(10)), Ok(()));
    }

    #[test]
    fn every_nth_request_fails() {
        let options = ApiOptions { fail_every: NonZeroU64::new(3), ..ApiOptions::default() };
        let (mut state, now) = (State::default(), Instant::now());
        let failed: Vec<_> = (0..6).map(|_| state.admit(&options, now).is_err()).collect();
        assert_eq!(failed, [false, false, true, false, false, true]);
    }

    #[test]
    fn each_seed_has_its_own_sequence_without_gaps() {
        let mut state = State::default();
        assert_eq!(state.take("a", 10), Ok(0));
        assert_eq!(state.take("b", 5), Ok(0));
        assert_eq!(state.take("a", 3), Ok(10));
        assert_eq!(state.take("a", 1), Ok(13));
    }

    #[test]
    fn the_number_of_remembered_seeds_is_bounded() {
        let mut state = State::default();
        for seed in 0..MAX_SEEDS {
            state.take(&seed.to_string(), 1).unwrap();
        }
        assert!(matches!(state.take("one more", 1), Err(Rejection::Bad(_))));
        assert_eq!(state.take("0", 1), Ok(1));
    }

    #[tokio::test]
    async fn every_nth_person_has_a_flaw_and_the_others_have_none() {
        let (_api, good) = running(ApiOptions::default()).await;
        let (_other, flawed) = running(ApiOptions { bad_every: NonZeroU64::new(4), ..ApiOptions::default() }).await;
        let people =
            async |url: &str, page: u64| get(&format!("{url}?results=10&page={page}")).await.1["results"].as_array().unwrap().clone();
        for page in 1..=2 {
            let (good, flawed) = (people(&good, page).await, people(&flawed, page).await);
            let differ: Vec<_> = (0..10).filter(|&at| good[at] != flawed[at]).collect();
            assert_eq!(differ, if page == 1 { vec![3, 7] } else { vec![1, 5, 9] }, "people 4, 8, 12, 16 and 20 of the seed");
        }
    }

    #[tokio::test]
    async fn dropping_the_api_stops_it() {
        let (api, url) = running(ApiOptions::default()).await;
        assert_eq!(get(&url).await.0, 200);
        drop(api);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        while client.get(&url).send().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
