//! The way of a record: API, producer, topic, transformer, writer, table, with rates, lag and the pressure of each edge.

use forebay_schemas::snapshot::{ActorState, EdgeView, Snapshot};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::state::{Folded, Pressure, Trend, badness, downstream};
use crate::text;
use crate::theme::{Role, Theme};

/// How many stations the way has.
const STATIONS: usize = 6;

/// A station of the way.
struct Node {
    name: String,
    /// The actor that works there; none for what is no actor.
    state: Option<ActorState>,
    /// Whether this process runs it.
    here: bool,
    /// What leaves it.
    flow: String,
    facts: [(String, Role); 2],
    /// The edge that ends in it.
    edge: Option<EdgeView>,
}

/// The state of the worst of the actors that have `name` in their path; none when there is no such actor.
fn state_of(look: &Snapshot, name: &str) -> Option<ActorState> {
    let named = look.actors.iter().filter(|actor| actor.path.split('/').any(|part| part == name));
    named.map(|actor| actor.state).max_by_key(|&state| badness(state))
}

/// The edge whose downstream end is `to`.
fn edge_to(look: &Snapshot, to: &str) -> Option<EdgeView> {
    look.edges.iter().rfind(|edge| downstream(edge) == to).cloned()
}

/// The stations; `room` is how many columns a fact may take.
fn nodes(folded: &Folded, look: &Snapshot, theme: &Theme, room: usize) -> [Node; STATIONS] {
    let totals = &look.totals;
    let plain = |text: String| (text, Role::Text);
    let counted = |n: u64, what: &str, role: Role| (format!("{} {what}", text::count(n)), if n > 0 { role } else { Role::Muted });
    let mean = |micros: fn(&forebay_schemas::snapshot::BatchView) -> u64| match look.batches.len() {
        0 => (String::new(), Role::Muted),
        n => plain(format!("{} a batch", text::micros(look.batches.iter().map(micros).fold(0, u64::saturating_add) / n as u64))),
    };
    let transform = {
        let (mean, role) = mean(|batch| batch.transform_micros);
        let trigger = super::batches::trigger(look).map(|trigger| format!("{mean}, trigger {}", text::whole_micros(trigger)));
        (trigger.filter(|both| !mean.is_empty() && text::width(both) <= room).unwrap_or(mean), role)
    };
    let actor = |name: &str| (state_of(look, name), state_of(look, name).is_some());
    let (fetcher, fetcher_here) = actor("fetcher");
    let (producer, producer_here) = actor("producer");
    let (transformer, transformer_here) = actor("transformer");
    let (writer, writer_here) = actor("writer");
    let trend = match folded.lag_trend() {
        Trend::Rising => theme.signs.up,
        Trend::Level => theme.signs.level,
        Trend::Falling => theme.signs.down,
    };
    let caught_up = folded.lag() == 0;
    let behind = if caught_up {
        plain("caught up".to_owned())
    } else {
        folded.behind().map_or_else(|| plain("not moving".to_owned()), |s| plain(format!("{} behind", text::seconds(s))))
    };
    [
        Node {
            name: "API".to_owned(),
            state: fetcher,
            here: fetcher_here,
            flow: text::rate(folded.rate(|look| look.totals.fetched)),
            facts: [
                plain(format!("{} pages/s", folded.rate(|look| look.totals.pages).map_or("-".to_owned(), text::short))),
                counted(totals.fetch_failures, "failed", Role::Warn),
            ],
            edge: None,
        },
        Node {
            name: "producer".to_owned(),
            state: producer,
            here: producer_here,
            flow: text::rate(folded.rate(|look| look.totals.produced)),
            facts: [plain(format!("{} acked", text::short(totals.produced as f64))), plain(String::new())],
            edge: edge_to(look, "producer"),
        },
        Node {
            name: format!("topic {}", look.topic),
            state: state_of(look, "consumer"),
            here: true,
            flow: text::rate(folded.rate(|look| look.totals.consumed)),
            facts: [(format!("lag {} {trend}", text::count(folded.lag())), Role::Title), behind],
            edge: edge_to(look, "topic"),
        },
        Node {
            name: "transformer".to_owned(),
            state: transformer,
            here: transformer_here,
            flow: text::rate(folded.rate(|look| look.totals.consumed)),
            facts: [transform, counted(totals.rejected, "rejected", Role::Warn)],
            edge: edge_to(look, "transformer"),
        },
        Node {
            name: "writer".to_owned(),
            state: writer,
            here: writer_here,
            flow: text::rate(folded.rate(|look| look.totals.written)),
            facts: [mean(|batch| batch.write_micros), counted(totals.write_retries, "retries", Role::Warn)],
            edge: edge_to(look, "writer"),
        },
        Node {
            name: format!("table {}", look.table.rsplit('.').next().unwrap_or(&look.table)),
            state: None,
            here: true,
            flow: format!("{} rows", text::short(totals.written as f64)),
            facts: [
                plain(format!("p50 {}", text::millis(look.latency_ms.p50))),
                plain(format!("p99 {}", text::millis(look.latency_ms.p99))),
            ],
            edge: edge_to(look, "table"),
        },
    ]
}

impl Node {
    fn sign(&self, theme: &Theme) -> (&'static str, Role) {
        match self.state {
            _ if !self.here => (theme.signs.elsewhere, Role::Muted),
            None | Some(ActorState::Up) => (theme.signs.dot, Role::Good),
            Some(state) => super::actors::sign(state, theme),
        }
    }
}

/// The picture: six columns of a station each, five lines, and the totals.
pub(crate) fn picture(folded: &Folded, theme: &Theme, width: usize) -> Vec<Line<'static>> {
    let Some(look) = folded.newest() else { return Vec::new() };
    let each = width / STATIONS;
    let nodes = nodes(folded, look, theme, each.saturating_sub(1));
    // Where the arrows have room to say which edge holds.
    let roomy = each >= 19;
    let holding = folded.holding().map(|edge| edge.name.clone());
    let holds = |node: Option<&Node>| node.and_then(|node| node.edge.as_ref()).is_some_and(|edge| Some(&edge.name) == holding.as_ref());
    let mut lines = vec![Vec::new(); 5];
    for (at, node) in nodes.iter().enumerate() {
        let style = |role| theme.style(role);
        let next = nodes.get(at + 1);
        lines[0].extend(padded(&node.name, each, style(Role::Title), theme));
        let (sign, role) = node.sign(theme);
        let flow = format!(" {} ", text::cut(&node.flow, each.saturating_sub(3), theme.signs.cut));
        let room = each.saturating_sub(text::width(sign) + text::width(&flow));
        lines[1].extend([Span::styled(sign, style(role)), Span::raw(flow)]);
        if next.is_some() {
            let held = holds(next);
            lines[1].push(Span::styled(arrow(room, held, theme), style(if held { Role::Bad } else { Role::Muted })));
        }
        for (line, (fact, role)) in node.facts.iter().enumerate() {
            lines[2 + line].extend(padded(fact, each, style(*role), theme));
        }
        let (mut pressure, role) =
            node.edge.as_ref().map_or_else(Default::default, |edge| budget(folded, edge, !roomy && Some(&edge.name) == holding.as_ref()));
        if roomy && !pressure.is_empty() {
            pressure.insert_str(0, "budget ");
        }
        lines[4].extend(padded(&pressure, each, style(role.unwrap_or(Role::Muted)), theme));
    }
    let mut lines: Vec<_> = lines.into_iter().map(Line::from).collect();
    lines.push(totals(folded, theme, width));
    lines
}

fn padded(what: &str, width: usize, style: Style, theme: &Theme) -> [Span<'static>; 2] {
    let cut = text::cut(what, width.saturating_sub(1), theme.signs.cut);
    let pad = width.saturating_sub(text::width(&cut));
    [Span::styled(cut, style), Span::raw(" ".repeat(pad))]
}

/// An arrow of `room` columns with a space after it, that says when it holds.
fn arrow(room: usize, held: bool, theme: &Theme) -> String {
    let shaft = room.saturating_sub(1 + text::width(theme.signs.head));
    let word = match shaft {
        9.. if held => " holds ",
        5.. if held => "holds",
        _ => "",
    };
    let line = shaft.saturating_sub(word.len());
    let (before, after) = (line - line / 2, line / 2);
    if room < 2 {
        return " ".repeat(room);
    }
    format!("{}{word}{}{} ", theme.signs.line.repeat(before), theme.signs.line.repeat(after), theme.signs.head)
}

/// What an edge says of itself.
fn budget(folded: &Folded, edge: &EdgeView, holds: bool) -> (String, Option<Role>) {
    let pressure = folded.pressure(&edge.name);
    let role = match pressure {
        Pressure::Ok => Role::Muted,
        Pressure::Low => Role::Warn,
        Pressure::High => Role::Bad,
    };
    let word = if holds { format!("{} holds", pressure.word()) } else { pressure.word().to_owned() };
    (format!("{} {word}", text::percent(edge.used_bytes, edge.budget_bytes)), Some(role))
}

/// The way in words, as many lines as it takes; nothing is broken inside a station.
pub(crate) fn words(folded: &Folded, theme: &Theme, width: usize) -> Vec<Line<'static>> {
    let Some(look) = folded.newest() else { return Vec::new() };
    let holding = folded.holding().map(|edge| edge.name.clone());
    let mut lines = vec![Vec::new()];
    let mut taken = 0;
    for node in nodes(folded, look, theme, 0) {
        let mut pieces = Vec::new();
        if let Some(edge) = &node.edge
            && folded.pressure(&edge.name) > Pressure::Ok
        {
            let (what, role) = budget(folded, edge, Some(&edge.name) == holding.as_ref());
            pieces.push((format!("{}{} ", theme.signs.line, what), role.unwrap_or(Role::Muted)));
        }
        if taken > 0 || lines.len() > 1 {
            pieces.push((format!("{} ", theme.signs.head), Role::Muted));
        }
        let (sign, role) = node.sign(theme);
        if role != Role::Good {
            pieces.push((format!("{sign} "), role));
        }
        pieces.push((format!("{} ", node.name.split(' ').next_back().unwrap_or_default()), Role::Title));
        let lag = if node.name.starts_with("topic ") { format!("lag {} ", text::count(folded.lag())) } else { format!("{} ", node.flow) };
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

/// What came to what since the start.
pub(crate) fn totals(folded: &Folded, theme: &Theme, width: usize) -> Line<'static> {
    let Some(look) = folded.newest() else { return Line::default() };
    let t = &look.totals;
    let trouble = |n: u64| if n > 0 { Role::Warn } else { Role::Muted };
    let all = [
        ("pages", t.pages, Role::Text),
        ("fetched", t.fetched, Role::Text),
        ("produced", t.produced, Role::Text),
        ("consumed", t.consumed, Role::Text),
        ("written", t.written, Role::Text),
        ("rejected", t.rejected, trouble(t.rejected)),
        ("restarts", t.restarts, trouble(t.restarts)),
    ];
    // In full where there is room, else in short, else what matters most in short.
    let long = |n: u64| text::count(n);
    let short = |n: u64| text::short(n as f64).replace(' ', "");
    let fits = |pieces: &[(&str, u64, Role)], number: &dyn Fn(u64) -> String| {
        pieces.iter().map(|(name, n, _)| name.len() + number(*n).len() + 3).sum::<usize>() <= width + 2
    };
    let most: Vec<_> = all.iter().copied().filter(|(name, ..)| !["pages", "fetched", "consumed"].contains(name)).collect();
    let (pieces, number): (&[_], &dyn Fn(u64) -> String) = match () {
        () if fits(&all, &long) => (&all, &long),
        () if fits(&all, &short) => (&all, &short),
        () => (&most, &short),
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

/// A line a fact, the most urgent first, for the smallest terminals and the plain status.
pub(crate) fn facts(folded: &Folded, theme: &Theme) -> Vec<Line<'static>> {
    let Some(look) = folded.newest() else { return Vec::new() };
    let trouble = |n: u64| if n > 0 { Role::Warn } else { Role::Text };
    let facts = [
        ("lag", text::count(folded.lag()), Role::Title),
        ("behind", folded.behind().map_or_else(|| "-".to_owned(), text::seconds), Role::Text),
        ("in", text::rate(folded.received()), Role::Text),
        ("out", text::rate(folded.rate(|look| look.totals.written)), Role::Text),
        ("written", text::count(look.totals.written), Role::Text),
        ("rejected", text::count(look.totals.rejected), trouble(look.totals.rejected)),
        ("p50", text::millis(look.latency_ms.p50), Role::Text),
        ("p99", text::millis(look.latency_ms.p99), Role::Text),
        ("restarts", text::count(look.totals.restarts), trouble(look.totals.restarts)),
    ];
    let line = |(name, value, role): (&str, String, Role)| {
        Line::from(vec![Span::styled(format!(" {name:<9}"), theme.style(Role::Muted)), Span::styled(value, theme.style(role))])
    };
    facts.into_iter().map(line).collect()
}
