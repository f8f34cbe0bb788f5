//! What is measured, and the bar for each.

/// One row of the table.
pub struct Row {
    /// For `--only`.
    pub id: &'static str,
    pub title: &'static str,
    /// The highest value that passes: a ratio to `limit`, or bytes.
    pub bar: Bar,
    /// Where the figure stands in the generator's result.
    pub field: &'static [&'static str],
    pub unit: &'static str,
    /// More options of `limit`, the floor it is compared with.
    pub limit: &'static str,
    /// The generator's scenario.
    pub scenario: &'static [&'static str],
}

pub enum Bar {
    /// At most so many times what `limit` costs in the same run.
    Ratio(f64),
    /// At most so many, whatever `limit` needs.
    Absolute(f64),
}

const PRICE: &[&str] = &["cpu_us_per_delivery"];
const CONNECTION: &[&str] = &["cpu_us_per_connection"];
const US: &str = "CPU µs per delivery";

const fn fanout(
    id: &'static str,
    title: &'static str,
    bar: f64,
    limit: &'static str,
    scenario: &'static [&'static str],
) -> Row {
    Row { id, title, bar: Bar::Ratio(bar), field: PRICE, unit: US, limit, scenario }
}

pub const ROWS: &[Row] = &[
    fanout(
        "1x1000",
        "50,000 deliveries/s, 1 room × 1,000",
        1.03,
        "",
        &["fanout", "--rooms", "1", "--subscribers", "1000", "--rates", "50000"],
    ),
    fanout(
        "100x50",
        "50,000 deliveries/s, 100 rooms × 50",
        1.06,
        "",
        &["fanout", "--rooms", "100", "--subscribers", "50", "--rates", "50000"],
    ),
    fanout(
        "1x10000",
        "50,000 deliveries/s, 1 room × 10,000",
        1.06,
        "",
        &["fanout", "--rooms", "1", "--subscribers", "10000", "--rates", "50000"],
    ),
    fanout(
        "max-1x1000",
        "saturated, 64 outstanding, 1 × 1,000",
        0.35,
        "--coalesce 8",
        &["fanout", "--rooms", "1", "--subscribers", "1000", "--rates", "max:64"],
    ),
    fanout(
        "max-100x50",
        "saturated, 100 × 50",
        0.62,
        "",
        &["fanout", "--rooms", "100", "--subscribers", "50", "--rates", "max"],
    ),
    Row {
        id: "idle",
        title: "idle, subscribed connection (5,000 → 15,000)",
        bar: Bar::Absolute(512.0),
        field: &["bytes_per_connection", "rss"],
        unit: "bytes of RSS",
        limit: "",
        scenario: &["idle", "--steps", "5000,15000", "--hold", "1"],
    },
    Row {
        id: "connect",
        title: "connect: TCP, upgrade, connect, subscribe",
        bar: Bar::Ratio(1.25),
        field: CONNECTION,
        unit: "CPU µs per connection",
        limit: "",
        scenario: &["connect", "--connections", "5000"],
    },
    Row {
        id: "storm",
        title: "storm: 5,000 back at once",
        bar: Bar::Ratio(1.35),
        field: CONNECTION,
        unit: "CPU µs per connection",
        limit: "",
        scenario: &["storm", "--connections", "5000", "--concurrency", "0"],
    },
];
