//! The flow through the pipeline: API, producer, topic, transformer, writer and table, with rates,
//! lag and the pressure on each edge.

use forebay_schemas::snapshot::{ActorState, EdgeView, Snapshot};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::state::{Pressure, SnapshotWindow, Trend, downstream, severity};
use crate::text;
use crate::theme::{Role, Theme};

/// The number of components.
const COMPONENTS: usize = 6;

/// A component of the pipeline.
struct Component {
    name: String,
    /// The state of its actor, if it has one.
    state: Option<ActorState>,
    /// Whether this process runs it.
    here: bool,
    /// Its output rate.
    flow: String,
    facts: [(String, Role); 2],
    /// The edge that ends in it.
    edge: Option<EdgeView>,
}

/// The worst state of the actors with `name` in their path, if any.
fn state_of(snapshot: &Snapshot, name: &str) -> Option<ActorState> {
    let named = snapshot.actors.iter().filter(|actor| actor.path.split('/').any(|part| part == name));
    named.map(|actor| actor.state).max_by_key(|&state| severity(state))
}

/// The edge that ends in `to`.
fn edge_to(snapshot: &Snapshot, to: &str) -> Option<EdgeView> {
    snapshot.edges.iter().rfind(|edge| downstream(edge) == to).cloned()
}

/// The components; a fact has at most `room` columns.
fn components(window: &SnapshotWindow, snapshot: &Snapshot, theme: &Theme, room: usize) -> [Component; COMPONENTS] {
    let totals = &snapshot.totals;
    let plain = |text: String| (text, Role::Text);
    let counted = |n: u64, what: &str, role: Role| (format!("{} {what}", text::count(n)), if n > 0 { role } else { Role::Muted });
    let mean = |micros: fn(&forebay_schemas::snapshot::BatchView) -> u64| match snapshot.batches.len() {
        0 => (String::new(), Role::Muted),
        n => plain(format!("{} a batch", text::micros(snapshot.batches.iter().map(micros).fold(0, u64::saturating_add) / n as u64))),
    };
    let transform = {
        let (mean, role) = mean(|batch| batch.transform_micros);
        let trigger = super::batches::trigger(snapshot).map(|trigger| format!("{mean}, trigger {}", text::whole_micros(trigger)));
        (trigger.filter(|both| !mean.is_empty() && text::width(both) <= room).unwrap_or(mean), role)
    };
    let actor = |name: &str| (state_of(snapshot, name), state_of(snapshot, name).is_some());
    let (fetcher, fetcher_here) = actor("fetcher");
    let (producer, producer_here) = actor("producer");
    let (transformer, transformer_here) = actor("transformer");
    let (writer, writer_here) = actor("writer");
    let trend = match window.lag_trend() {
        Trend::Rising => theme.symbols.up,
        Trend::Steady => theme.symbols.level,
        Trend::Falling => theme.symbols.down,
    };
    let caught_up = window.lag() == 0;
    let behind = if caught_up {
        plain("caught up".to_owned())
    } else {
        window.behind().map_or_else(|| plain("not moving".to_owned()), |s| plain(format!("{} behind", text::seconds(s))))
    };
    [
        Component {
            name: "API".to_owned(),
            state: fetcher,
            here: fetcher_here,
            flow: text::rate(window.rate(|snapshot| snapshot.totals.fetched)),
            facts: [
                plain(format!("{} pages/s", window.rate(|snapshot| snapshot.totals.pages).map_or("-".to_owned(), text::short))),
                counted(totals.fetch_failures, "failed", Role::Warn),
            ],
            edge: None,
        },
        Component {
            name: "producer".to_owned(),
            state: producer,
            here: producer_here,
            flow: text::rate(window.rate(|snapshot| snapshot.totals.produced)),
            facts: [plain(format!("{} acked", text::short(totals.produced as f64))), plain(String::new())],
            edge: edge_to(snapshot, "producer"),
        },
        Component {
            name: format!("topic {}", snapshot.topic),
            state: state_of(snapshot, "consumer"),
            here: true,
            flow: text::rate(window.rate(|snapshot| snapshot.totals.consumed)),
            facts: [(format!("lag {} {trend}", text::count(window.lag())), Role::Title), behind],
            edge: edge_to(snapshot, "topic"),
        },
        Component {
            name: "transformer".to_owned(),
            state: transformer,
            here: transformer_here,
            flow: text::rate(window.rate(|snapshot| snapshot.totals.consumed)),
            facts: [transform, counted(totals.rejected, "rejected", Role::Warn)],
            edge: edge_to(snapshot, "transformer"),
        },
        Component {
            name: "writer".to_owned(),
            state: writer,
            here: writer_here,
            flow: text::rate(window.rate(|snapshot| snapshot.totals.written)),
            facts: [mean(|batch| batch.write_micros), counted(totals.write_retries, "retries", Role::Warn)],
            edge: edge_to(snapshot, "writer"),
        },
        Component {
            name: format!("table {}", snapshot.table.rsplit('.').next().unwrap_or(&snapshot.table)),
            state: None,
            here: true,
            flow: format!("{} rows", text::short(totals.written as f64)),
            facts: [
                plain(format!("p50 {}", text::millis(snapshot.latency_ms.p50))),
                plain(format!("p99 {}", text::millis(snapshot.latency_ms.p99))),
            ],
            edge: edge_to(snapshot, "table"),
        },
    ]
}

impl Component {
    fn symbol(&self, theme: &Theme) -> (&'static str, Role) {
        match self.state {
            _ if !self.here => (theme.symbols.elsewhere, Role::Muted),
            None | Some(ActorState::Up) => (theme.symbols.dot, Role::Good),
            Some(state) => super::actors::symbol(state, theme),
        }
    }
}

/// The picture: one column per component, five lines high, and the totals.
pub(crate) fn diagram(window: &SnapshotWindow, theme: &Theme, width: usize) -> Vec<Line<'static>> {
    let Some(snapshot) = window.newest() else { return Vec::new() };
    let each = width / COMPONENTS;
    let components = components(window, snapshot, theme, each.saturating_sub(1));
    // Whether the arrows have room to mark the bottleneck.
    let roomy = each >= 19;
    let bottleneck = window.bottleneck().map(|edge| edge.name.clone());
    let is_bottleneck = |component: Option<&Component>| {
        component.and_then(|component| component.edge.as_ref()).is_some_and(|edge| Some(&edge.name) == bottleneck.as_ref())
    };
    let mut lines = vec![Vec::new(); 5];
    for (at, component) in components.iter().enumerate() {
        let style = |role| theme.style(role);
        let next = components.get(at + 1);
        lines[0].extend(padded(&component.name, each, style(Role::Title), theme));
        let (symbol, role) = component.symbol(theme);
        let flow = format!(" {} ", text::cut(&component.flow, each.saturating_sub(3), theme.symbols.cut));
        let room = each.saturating_sub(text::width(symbol) + text::width(&flow));
        lines[1].extend([Span::styled(symbol, style(role)), Span::raw(flow)]);
        if next.is_some() {
            let is_bottleneck = is_bottleneck(next);
            lines[1].push(Span::styled(arrow(room, is_bottleneck, theme), style(if is_bottleneck { Role::Bad } else { Role::Muted })));
        }
        for (line, (fact, role)) in component.facts.iter().enumerate() {
            lines[2 + line].extend(padded(fact, each, style(*role), theme));
        }
        let (mut pressure, role) = component
            .edge
            .as_ref()
            .map_or_else(Default::default, |edge| budget(window, edge, !roomy && Some(&edge.name) == bottleneck.as_ref()));
        if roomy && !pressure.is_empty() {
            pressure.insert_str(0, "budget ");
        }
        lines[4].extend(padded(&pressure, each, style(role.unwrap_or(Role::Muted)), theme));
    }
    let mut lines: Vec<_> = lines.into_iter().map(Line::from).collect();
    lines.push(totals(window, theme, width));
    lines
}

fn padded(what: &str, width: usize, style: Style, theme: &Theme) -> [Span<'static>; 2] {
    let cut = text::cut(what, width.saturating_sub(1), theme.symbols.cut);
    let pad = width.saturating_sub(text::width(&cut));
    [Span::styled(cut, style), Span::raw(" ".repeat(pad))]
}

/// An arrow of `room` columns, including a trailing space, with a mark if its edge is the
/// bottleneck.
fn arrow(room: usize, is_bottleneck: bool, theme: &Theme) -> String {
    let shaft = room.saturating_sub(1 + text::width(theme.symbols.head));
    let word = match shaft {
        9.. if is_bottleneck => " slows ",
        5.. if is_bottleneck => "slows",
        _ => "",
    };
    let line = shaft.saturating_sub(word.len());
    let (before, after) = (line - line / 2, line / 2);
    if room < 2 {
        return " ".repeat(room);
    }
    format!("{}{word}{}{} ", theme.symbols.line.repeat(before), theme.symbols.line.repeat(after), theme.symbols.head)
}

/// The utilization and the pressure of an edge.
fn budget(window: &SnapshotWindow, edge: &EdgeView, is_bottleneck: bool) -> (String, Option<Role>) {
    let pressure = window.pressure(&edge.name);
    let role = match pressure {
        Pressure::Ok => Role::Muted,
        Pressure::Low => Role::Warn,
        Pressure::High => Role::Bad,
    };
    let word = if is_bottleneck { format!("{} slows", pressure.as_str()) } else { pressure.as_str().to_owned() };
    (format!("{} {word}", text::percent(edge.used_bytes, edge.budget_bytes)), Some(role))
}

/// The flow in words, wrapped between components.
pub(crate) fn in_words(window: &SnapshotWindow, theme: &Theme, width: usize) -> Vec<Line<'static>> {
    let Some(snapshot) = window.newest() else { return Vec::new() };
    let bottleneck = window.bottleneck().map(|edge| edge.name.clone());
    let mut lines = vec![Vec::new()];
    let mut taken = 0;
    for component in components(window, snapshot, theme, 0) {
        let mut pieces = Vec::new();
        if let Some(edge) = &component.edge
            && window.pressure(&edge.name) > Pressure::Ok
        {
            let (what, role) = budget(window, edge, Some(&edge.name) == bottleneck.as_ref());
            pieces.push((format!("{}{} ", theme.symbols.line, what), role.unwrap_or(Role::Muted)));
        }
        if taken > 0 || lines.len() > 1 {
            pieces.push((format!("{} ", theme.symbols.head), Role::Muted));
        }
        let (symbol, role) = component.symbol(theme);
        if role != Role::Good {
            pieces.push((format!("{symbol} "), role));
        }
        pieces.push((format!("{} ", component.name.split(' ').next_back().unwrap_or_default()), Role::Title));
        let lag = if component.name.starts_with("topic ") {
            format!("lag {} ", text::count(window.lag()))
        } else {
            format!("{} ", component.flow)
        };
        pieces.push((lag, Role::Text));
        let wide: usize = pieces.iter().map(|(piece, _)| text::width(piece)).sum();
        if taken > 0 && taken + wide > width {
            lines.push(Vec::new());
            taken = 0;
        }
        let line = lines.last_mut().expect("there is a line from the start");
        taken += wide;
        line.extend(pieces.into_iter().map(|(piece, role)| Span::styled(piece, theme.style(role))));
    }
    lines.into_iter().map(Line::from).collect()
}

/// The totals since the start.
pub(crate) fn totals(window: &SnapshotWindow, theme: &Theme, width: usize) -> Line<'static> {
    let Some(snapshot) = window.newest() else { return Line::default() };
    let t = &snapshot.totals;
    let warn_if_any = |n: u64| if n > 0 { Role::Warn } else { Role::Muted };
    let all = [
        ("pages", t.pages, Role::Text),
        ("fetched", t.fetched, Role::Text),
        ("produced", t.produced, Role::Text),
        ("consumed", t.consumed, Role::Text),
        ("written", t.written, Role::Text),
        ("rejected", t.rejected, warn_if_any(t.rejected)),
        ("restarts", t.restarts, warn_if_any(t.restarts)),
    ];
    // All totals in full if they fit, else all abbreviated, else the most important ones.
    let long = |n: u64| text::count(n);
    let short = |n: u64| text::short(n as f64).replace(' ', "");
    let fits = |pieces: &[(&str, u64, Role)], number: &dyn Fn(u64) -> String| {
        pieces.iter().map(|(name, n, _)| name.len() + number(*n).len() + 3).sum::<usize>() <= width + 2
    };
    let important: Vec<_> = all.iter().copied().filter(|(name, ..)| !["pages", "fetched", "consumed"].contains(name)).collect();
    let (pieces, number): (&[_], &dyn Fn(u64) -> String) = match () {
        () if fits(&all, &long) => (&all, &long),
        () if fits(&all, &short) => (&all, &short),
        () => (&important, &short),
    };
    let mut spans = Vec::new();
    let mut room = width;
    for &(name, n, role) in pieces {
        let piece = format!("{name} {}  ", number(n));
        if text::width(piece.trim_end()) > room {
            break;
        }
        room = room.saturating_sub(text::width(&piece));
        spans.push(Span::styled(format!("{name} "), theme.style(Role::Muted)));
        spans.push(Span::styled(format!("{}  ", number(n)), theme.style(role)));
    }
    Line::from(spans)
}

/// One fact per line, the most important first, for the smallest terminals.
pub(crate) fn facts(window: &SnapshotWindow, theme: &Theme) -> Vec<Line<'static>> {
    let Some(snapshot) = window.newest() else { return Vec::new() };
    let warn_if_any = |n: u64| if n > 0 { Role::Warn } else { Role::Text };
    let facts = [
        ("lag", text::count(window.lag()), Role::Title),
        ("behind", window.behind().map_or_else(|| "-".to_owned(), text::seconds), Role::Text),
        ("in", text::rate(window.received()), Role::Text),
        ("out", text::rate(window.rate(|snapshot| snapshot.totals.written)), Role::Text),
        ("written", text::count(snapshot.totals.written), Role::Text),
        ("rejected", text::count(snapshot.totals.rejected), warn_if_any(snapshot.totals.rejected)),
        ("p50", text::millis(snapshot.latency_ms.p50), Role::Text),
        ("p99", text::millis(snapshot.latency_ms.p99), Role::Text),
        ("restarts", text::count(snapshot.totals.restarts), warn_if_any(snapshot.totals.restarts)),
    ];
    let line = |(name, value, role): (&str, String, Role)| {
        Line::from(vec![Span::styled(format!(" {name:<9}"), theme.style(Role::Muted)), Span::styled(value, theme.style(role))])
    };
    facts.into_iter().map(line).collect()
}
