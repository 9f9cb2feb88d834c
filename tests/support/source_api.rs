//! A source API that answers as the test wants.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Answers each request with the result of the test's function.
pub(crate) struct TestApi {
    pub(crate) url: String,
    asked: Asked,
}

/// What a [`TestApi`] was asked.
#[derive(Clone, Default)]
struct Asked {
    requests: Arc<AtomicU32>,
    paths: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl Asked {
    fn note(&self, path: &str, headers: &[String]) {
        self.paths.lock().push(path.to_owned());
        let token = |line: &String| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
        };
        self.tokens.lock().extend(headers.iter().find_map(token));
    }
}

/// The value of a query parameter of a request, as it was sent.
pub(crate) fn query_value<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    path.split_once('?')?.1.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The number in a query parameter of a request.
pub(crate) fn query_number(path: &str, name: &str) -> Option<u32> {
    query_value(path, name)?.parse().ok()
}

/// One answer.
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    /// Content type.
    pub(crate) kind: &'static str,
    /// Additional headers, each with its line end.
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn ok(body: String) -> Self {
        Self { status: "200 OK", kind: "application/json", headers: String::new(), body }
    }

    /// Adds a header.
    pub(crate) fn with(mut self, header: &str) -> Self {
        self.headers.push_str(header);
        self.headers.push_str("\r\n");
        self
    }

    /// An answer with another status.
    pub(crate) fn of(status: &'static str, body: &str) -> Self {
        Self { status, ..Self::ok(body.to_owned()) }
    }

    /// Users `from..to`, as randomuser.me would send them.
    pub(crate) fn users(from: u32, to: u32) -> Self {
        Self::page((from..to).map(|n| super::user(n, 1)))
    }

    /// Page `n` of a few changing users: they recur, each time in version `n`. Every
    /// [`BAD_EVERY`]th page ends with a bad record.
    pub(crate) fn versions(n: u32) -> Self {
        Self::page(users_of_page(n).enumerate().map(|(at, user)| match is_bad(n, at) {
            true => super::bad_user(user, n),
            false => super::user(user, n),
        }))
    }

    /// Users `from..to`, and the cursor of the next page.
    pub(crate) fn users_and_next(from: u32, to: u32, next: u32) -> Self {
        Self::users(from, to).and_next(next)
    }

    /// Names the cursor of the next page.
    pub(crate) fn and_next(mut self, next: u32) -> Self {
        self.body = self.body.replace("\"info\":{\"page\":1}", &format!("\"info\":{{\"next\":{next}}}"));
        self
    }

    fn page(users: impl Iterator<Item = String>) -> Self {
        let users: Vec<String> = users.collect();
        Self::ok(format!("{{\"results\":[{}],\"info\":{{\"page\":1}}}}", users.join(",")))
    }

    pub(crate) fn unavailable() -> Self {
        Self::of("503 Service Unavailable", "come back later")
    }
}

/// Users on a page of [`Answer::versions`].
const USERS_PER_PAGE: usize = 10;
/// Pages until the same users recur.
const PAGES: u32 = 13;
/// Distance between two pages with a bad record.
const BAD_EVERY: u32 = 5;

/// The users on page `n` of [`Answer::versions`].
pub(crate) fn users_of_page(n: u32) -> impl Iterator<Item = u32> {
    (n % PAGES * 10..).take(USERS_PER_PAGE)
}

/// An API with a cursor that always has another page: page `n` is [`Answer::versions`] of `n`,
/// however often it is requested. A run with the param `run` reads users of its own.
pub(crate) struct EndlessApi {
    pub(crate) api: TestApi,
    /// The number of pages served, without those of runs.
    pages: Arc<AtomicU32>,
    /// Answers 503.
    is_down: Arc<AtomicBool>,
}

/// The first user of the runs.
const FIRST_RUN_USER: u32 = 1_000;
/// Pages of a run, each with ten users.
const RUN_PAGES: u32 = 3;
/// Users of a run.
pub(crate) const RUN_USERS: u32 = 10 * RUN_PAGES;

impl EndlessApi {
    /// The lines of `[fetcher]` that it needs.
    pub(crate) const FETCHER: &str =
        "params = [\"run\"]\nmax_pages = 20\ntimeout = \"3s\"\ncursor = { next = \"/info/next\", param = \"since\" }";

    /// Serves a page in `page_time`.
    pub(crate) fn start(page_time: Duration) -> Self {
        let (pages, is_down) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (served, down) = (Arc::clone(&pages), Arc::clone(&is_down));
        let api = TestApi::by_path(move |_, path| {
            if down.load(Ordering::SeqCst) {
                return Answer::unavailable();
            }
            let of = |name: &str| path.split(['?', '&']).find_map(|pair| pair.strip_prefix(name)?.parse::<u32>().ok());
            let page = of("since=").unwrap_or_default();
            if let Some(run) = of("run=") {
                let first = FIRST_RUN_USER + run * RUN_USERS + page * 10;
                let users = Answer::users(first, first + 10);
                return if page + 1 < RUN_PAGES { users.and_next(page + 1) } else { users };
            }
            std::thread::sleep(page_time);
            served.fetch_max(page + 1, Ordering::SeqCst);
            Answer::versions(page).and_next(page + 1)
        });
        Self { api, pages, is_down }
    }

    /// Answers 503 from now on, or no longer.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    /// User and version of every record that it served, and whether the record is bad.
    pub(crate) fn served(&self, runs: u32) -> BTreeSet<(u32, u32, bool)> {
        let pages = 0..self.pages.load(Ordering::SeqCst);
        let of_pages = pages.flat_map(|n| users_of_page(n).enumerate().map(move |(at, user)| (user, n, is_bad(n, at))));
        let of_runs = (FIRST_RUN_USER..FIRST_RUN_USER + runs * RUN_USERS).map(|user| (user, 1, false));
        of_pages.chain(of_runs).collect()
    }
}

/// Whether a record on page `n` of [`Answer::versions`] is bad.
pub(crate) fn is_bad(n: u32, at: usize) -> bool {
    n.is_multiple_of(BAD_EVERY) && at == USERS_PER_PAGE - 1
}

impl TestApi {
    /// Serves until the test process ends. `answer` gets the number of the request, from 0.
    pub(crate) fn start(answer: impl Fn(u32) -> Answer + Send + 'static) -> Self {
        Self::by_path(move |n, _| answer(n))
    }

    /// Serves requests with a header, such as `authorization: Bearer x`; others get 401.
    pub(crate) fn requiring_header(header: &'static str, answer: impl Fn(u32) -> Answer + Send + 'static) -> Self {
        Self::by_request(move |n, _, headers| match headers.iter().any(|shown| shown.eq_ignore_ascii_case(header)) {
            true => answer(n),
            false => Answer::of("401 Unauthorized", "no token"),
        })
    }

    /// Serves with an `answer` that also gets the path and query, such as `/?since=7`.
    pub(crate) fn by_path(answer: impl Fn(u32, &str) -> Answer + Send + 'static) -> Self {
        Self::by_request(move |n, path, _| answer(n, path))
    }

    /// Serves with an `answer` that also gets the lines of the headers.
    pub(crate) fn by_request(answer: impl Fn(u32, &str, &[String]) -> Answer + Send + 'static) -> Self {
        Self::by_body(move |n, path, headers, _| answer(n, path, headers))
    }

    /// Serves with an `answer` that also gets the body. The first line of the headers is the
    /// method.
    pub(crate) fn by_body(answer: impl Fn(u32, &str, &[String], &str) -> Answer + Send + 'static) -> Self {
        Self::accepting(move |n, stream, asked| {
            let _ = serve(stream, |path, headers, body| {
                asked.note(path, headers);
                answer(n, path, headers, body)
            });
        })
    }

    /// Serves each request on a thread of its own, with an `answer` that gets path and query.
    pub(crate) fn side_by_side(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::accepting(move |_, stream, asked| {
            let (answer, asked) = (Arc::clone(&answer), asked.clone());
            std::thread::spawn(move || {
                let _ = serve(stream, |path, headers, _| {
                    asked.note(path, headers);
                    answer(path)
                });
            });
        })
    }

    /// Hands each connection, with its number, to `serve`.
    fn accepting(serve: impl Fn(u32, TcpStream, &Asked) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Asked::default();
        let shown = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(shown.requests.fetch_add(1, Ordering::SeqCst), stream, &shown);
            }
        });
        Self { url, asked }
    }

    /// Number of requests so far.
    pub(crate) fn requests(&self) -> u32 {
        self.asked.requests.load(Ordering::SeqCst)
    }

    /// The `Authorization` headers of the requests, in order.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.asked.tokens.lock().clone()
    }

    /// Paths and queries of the requests since the last call, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.paths.lock())
    }
}

fn serve(stream: TcpStream, answer: impl FnOnce(&str, &[String], &str) -> Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        // The client is gone before its request.
        return Ok(());
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = vec![line.split(' ').next().unwrap_or_default().to_owned()];
    line.clear();
    while reader.read_line(&mut line)? > 2 {
        headers.push(line.trim_end().to_owned());
        line.clear();
    }
    let length = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    });
    let mut body = vec![0; length.unwrap_or_default()];
    reader.read_exact(&mut body)?;
    let answer = answer(&path, &headers, &String::from_utf8_lossy(&body));
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n{}",
        answer.status,
        answer.kind,
        answer.body.len(),
        answer.headers,
        answer.body
    )?;
    stream.flush()
}
