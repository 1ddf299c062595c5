//! What happens between the two services, beat by beat, and how long each change takes to arrive.

use crate::demo::broken;
use crate::demo::services::{Customer, Customers, Orders};
use crate::output::Output;
use crate::report::Failure;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use unicode_width::UnicodeWidthStr;

/// Time between two things that are told.
const BEAT: Duration = Duration::from_millis(800);
/// Time between two small changes that are not.
const MURMUR: Duration = Duration::from_millis(20);
/// How often the order service looks whether a change is there.
const LOOK: Duration = Duration::from_micros(100);
/// A change that takes longer than this is lost.
const LOST: Duration = Duration::from_secs(60);
/// Beats without which there is no story.
const TOLD_MIN: usize = 2;

const NEW: [&str; 8] = [
    "Barbara Liskov",
    "Donald Knuth",
    "Katherine Johnson",
    "Claude Shannon",
    "Radia Perlman",
    "Tony Hoare",
    "Frances Allen",
    "John Backus",
];
const ITEMS: [(&str, i64); 4] = [
    ("an espresso machine", 740),
    ("a standing desk", 810),
    ("a telescope", 690),
    ("a cello", 880),
];

/// How long every change took to arrive.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    took: Vec<Duration>,
    told: usize,
    /// Rows on both sides, when they are the same.
    pub(super) identical: Option<usize>,
}

impl Latencies {
    pub(super) fn all(&self) -> usize {
        self.took.len()
    }

    pub(super) fn told(&self) -> usize {
        self.told
    }

    /// Half of them, 99 in 100, and all of them took at most so long.
    pub(super) fn summary(&self) -> Option<(Duration, Duration, Duration)> {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some((sorted[last / 2], sorted[last * 99 / 100], sorted[last]))
    }
}

/// The two services and what was seen so far.
pub(super) struct Story {
    customers: Customers,
    orders: Orders,
    output: Output,
    began: Instant,
    stop: CancellationToken,
    latencies: Latencies,
    /// The customer that the story is about.
    hero: Option<Customer>,
    /// One who left.
    gone: Option<Customer>,
}

impl Story {
    pub(super) fn new(
        customers: Customers,
        orders: Orders,
        output: Output,
        began: Instant,
        stop: CancellationToken,
    ) -> Self {
        let latencies = Latencies::default();
        Self { customers, orders, output, began, stop, latencies, hero: None, gone: None }
    }

    /// Plays for so long, but however slow the machine is until somebody has come and was refused; or
    /// until it is stopped. Blocks.
    pub(super) fn play(mut self, length: Duration) -> Result<Latencies, Failure> {
        let end = Instant::now() + length;
        for beat in 0.. {
            if (beat >= TOLD_MIN && Instant::now() >= end) || self.stop.is_cancelled() {
                break;
            }
            let next = (Instant::now() + BEAT).min(end);
            self.beat(beat)?;
            self.murmur(next)?;
        }
        let (here, there) = (self.customers.all(), self.orders.customers());
        let (here, there) = (here.map_err(|e| broken(&e))?, there.map_err(|e| broken(&e))?);
        self.latencies.identical = (here == there).then_some(here.len());
        Ok(self.latencies)
    }

    fn beat(&mut self, beat: usize) -> Result<(), Failure> {
        let round = beat / 8;
        let (item, price) = ITEMS[round % ITEMS.len()];
        match beat % 8 {
            0 => self.join(NEW[round % NEW.len()], price - 200),
            1 | 3 => self.order(item, price),
            2 => self.raise(price + 60),
            4 => self.rename(round),
            5 => self.totals(),
            6 => self.leave(round),
            _ => self.order_of_gone(item),
        }
    }

    fn join(&mut self, name: &str, limit: i64) -> Result<(), Failure> {
        let new = self.customers.join(name, limit).map_err(|e| broken(&e))?;
        let took = self.arrival(&new)?;
        self.hero = Some(new);
        self.customer_says("+", &format!("{name} becomes a customer, credit limit {limit}"), took)
    }

    fn order(&mut self, item: &str, price: i64) -> Result<(), Failure> {
        let Some(hero) = &self.hero else { return Ok(()) };
        let known = self.orders.customer(hero.id).map_err(|e| broken(&e))?;
        let Some(Customer { id, name, credit_limit, .. }) = known else { return Ok(()) };
        let wish = format!("{name} orders {item} ({price})");
        if price > credit_limit {
            let note = format!("limit is {credit_limit}: a local look-up");
            return self.order_says("✗", &format!("{wish}: refused"), &note);
        }
        self.orders.place(id, item, price).map_err(|e| broken(&e))?;
        let note = format!("limit is {credit_limit}");
        self.order_says("✓", &format!("{wish}: accepted"), &note)
    }

    fn raise(&mut self, limit: i64) -> Result<(), Failure> {
        let Some(hero) = &self.hero else { return Ok(()) };
        let raised = self.customers.limit(hero.id, limit).map_err(|e| broken(&e))?;
        let took = self.arrival(&raised)?;
        let text = format!("{}'s credit limit is {limit} now", raised.name);
        self.customer_says("~", &text, took)
    }

    fn rename(&mut self, round: usize) -> Result<(), Failure> {
        let all = self.customers.all().map_err(|e| broken(&e))?;
        let hero = self.hero.as_ref().map(|h| h.id);
        let others: Vec<&Customer> = all.iter().filter(|c| Some(c.id) != hero).collect();
        if others.is_empty() {
            return Ok(());
        }
        let other = others[round % others.len()];
        let name = match other.name.strip_prefix("Dr. ") {
            Some(plain) => format!("Prof. {plain}"),
            None => format!("Dr. {}", other.name.trim_start_matches("Prof. ")),
        };
        let renamed = self.customers.rename(other.id, &name).map_err(|e| broken(&e))?;
        let took = self.arrival(&renamed)?;
        self.customer_says("~", &format!("{} is now called {name}", other.name), took)
    }

    fn totals(&mut self) -> Result<(), Failure> {
        let totals = self.orders.totals().map_err(|e| broken(&e))?;
        let listed: Vec<String> = totals.iter().map(|(n, sum)| format!("{n} {sum}")).collect();
        let text = format!("orders by customer: {}", listed.join(", "));
        self.order_says("Σ", &text, "one local join")
    }

    fn leave(&mut self, round: usize) -> Result<(), Failure> {
        let all = self.customers.all().map_err(|e| broken(&e))?;
        let hero = self.hero.as_ref().map(|h| h.id);
        let others: Vec<&Customer> = all.iter().filter(|c| Some(c.id) != hero).collect();
        // The last few stay, so that there is something to tell for as long as it lasts.
        if others.len() < 3 {
            return Ok(());
        }
        let gone = others[(round + 1) % others.len()].clone();
        self.customers.leave(gone.id).map_err(|e| broken(&e))?;
        let took = self.departure(&gone)?;
        let text = format!("{} leaves", gone.name);
        self.gone = Some(gone);
        self.customer_says("-", &text, took)
    }

    fn order_of_gone(&mut self, item: &str) -> Result<(), Failure> {
        let Some(gone) = &self.gone else { return Ok(()) };
        if self.orders.customer(gone.id).map_err(|e| broken(&e))?.is_some() {
            return Ok(());
        }
        let text = format!("{} orders {item}: refused", gone.name);
        self.order_says("✗", &text, "no such customer any more")
    }

    /// Small changes, not told but measured, until it is time for the next beat.
    fn murmur(&mut self, until: Instant) -> Result<(), Failure> {
        let all = self.customers.all().map_err(|e| broken(&e))?;
        let hero = self.hero.as_ref().map(|h| h.id);
        let mut others = all.iter().filter(|c| Some(c.id) != hero).cycle();
        while Instant::now() < until && !self.stop.is_cancelled() {
            let Some(other) = others.next() else { return Ok(()) };
            let limit =
                400 + (other.credit_limit * 7 + self.latencies.took.len() as i64 * 10) % 1200;
            let changed = self.customers.limit(other.id, limit).map_err(|e| broken(&e))?;
            self.arrival(&changed)?;
            std::thread::sleep(MURMUR.min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// Waits until the order service sees a customer as it is now.
    fn arrival(&mut self, customer: &Customer) -> Result<Duration, Failure> {
        let id = customer.id;
        self.measure(|seen| seen.is_some_and(|c| c.revision >= customer.revision), id)
    }

    /// Waits until the order service no longer sees a customer.
    fn departure(&mut self, customer: &Customer) -> Result<Duration, Failure> {
        self.measure(|seen| seen.is_none(), customer.id)
    }

    fn measure(
        &mut self,
        there: impl Fn(Option<&Customer>) -> bool,
        id: i64,
    ) -> Result<Duration, Failure> {
        let committed = Instant::now();
        loop {
            let seen = self.orders.customer(id).map_err(|e| broken(&e))?;
            let took = committed.elapsed();
            if there(seen.as_ref()) {
                self.latencies.took.push(took);
                return Ok(took);
            }
            if took > LOST {
                let help = "please report this with everything above";
                return Err(Failure::new("a change did not arrive", help));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn customer_says(&mut self, sign: &str, text: &str, took: Duration) -> Result<(), Failure> {
        self.latencies.told += 1;
        let p = self.output.paint;
        let millis = format!("{:.1} ms", took.as_secs_f64() * 1e3);
        let note = format!("→ order service in {}", p.green(&millis));
        self.say(&p.cyan("customer"), sign, text, &note)
    }

    fn order_says(&self, sign: &str, text: &str, note: &str) -> Result<(), Failure> {
        let p = self.output.paint;
        self.say(&p.magenta("order   "), sign, text, &p.dim(note))
    }

    fn say(&self, who: &str, sign: &str, text: &str, note: &str) -> Result<(), Failure> {
        let p = self.output.paint;
        let at = p.dim(&format!("{:>6.1} s", self.began.elapsed().as_secs_f64()));
        let pad = " ".repeat(60_usize.saturating_sub(text.width()));
        self.output.line(format!("{at}  {who}  {} {text}{pad}  {note}", p.bold(sign)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_taken_over_all_changes() {
        let took = (1..=200).rev().map(Duration::from_millis).collect();
        let latencies = Latencies { took, ..Latencies::default() };
        let ms = Duration::from_millis;
        assert_eq!(latencies.summary(), Some((ms(100), ms(198), ms(200))));
        assert_eq!(Latencies::default().summary(), None);
    }
}
