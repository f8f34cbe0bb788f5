//! Numbers for people.

/// With commas between thousands: `1234567.4` is `1,234,567`.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    if value < 0.0 && digits != "0" {
        out.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// As exact as people need: three digits and more, without needless zeros.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        return grouped(value);
    }
    // At most three digits that say something, but not more than six places.
    let places: usize = match size {
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        s if s >= 0.1 => 3,
        s if s >= 0.01 => 4,
        s if s >= 0.001 => 5,
        _ => 6,
    };
    let text = format!("{value:.places$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// With a unit of thousands: `2558889` is `2.56 M`.
pub fn scaled(value: f64) -> String {
    let units = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")];
    for (size, unit) in units {
        if value.abs() >= size {
            let by = if size == 1e4 { 1e3 } else { size };
            return format!("{}{unit}", short(value / by));
        }
    }
    short(value)
}

/// An amount of money.
pub fn money(value: f64, currency: &str) -> String {
    let amount = if value.abs() >= 100.0 { grouped(value) } else { cents(value) };
    if currency == "USD" { format!("${amount}") } else { format!("{currency} {amount}") }
}

/// Two places, or as many as small amounts need.
fn cents(value: f64) -> String {
    if value == 0.0 || value.abs() >= 0.1 { format!("{value:.2}") } else { short(value) }
}

/// A share in percent.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    let places = usize::from(value != 0.0 && value.abs() < 10.0);
    format!("{value:.places$} %")
}

/// A count with its noun.
pub fn count(n: u64, noun: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {noun}{s}", grouped(n as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let all = [
            (grouped(0.0), "0"),
            (grouped(999.6), "1,000"),
            (grouped(1_234_567.4), "1,234,567"),
            (grouped(-1_234.0), "-1,234"),
            (grouped(-0.2), "0"),
            (short(816_666.7), "816,667"),
            (short(12.345), "12.3"),
            (short(2.0), "2"),
            (short(0.0005), "0.0005"),
            (short(0.0), "0"),
            (short(-0.0), "0"),
            (scaled(2_558_889.0), "2.56 M"),
            (scaled(16_666.7), "16.7 k"),
            (scaled(9_999.0), "9,999"),
            (scaled(4.5e9), "4.5 G"),
            (money(18_360.0, "USD"), "$18,360"),
            (money(0.000_495, "USD"), "$0.000495"),
            (money(0.5, "EUR"), "EUR 0.50"),
            (money(0.0, "USD"), "$0.00"),
            (percent(0.853), "85 %"),
            (percent(0.0512), "5.1 %"),
            (count(1, "node"), "1 node"),
            (count(1_000, "node"), "1,000 nodes"),
        ];
        for (found, expected) in all {
            assert_eq!(found, expected);
        }
    }
}
