//! What does a scrape see? The sums over all workers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;

use prometheus::proto::{Metric, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use super::metrics::Metrics;

/// All registries of a process, summed when scraped.
#[derive(Debug, Default)]
pub struct Registries(Mutex<Vec<Registry>>);

impl Registries {
    /// Adds a worker's metrics.
    pub fn add(&self, metrics: &Metrics) {
        if let Ok(mut all) = self.0.lock() {
            all.push(metrics.registry.clone());
        }
    }

    /// The sums, in Prometheus' text format.
    ///
    /// # Errors
    /// If the text cannot be made.
    pub fn scrape(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.sums())
    }

    /// The sums themselves.
    #[must_use]
    pub fn sums(&self) -> Vec<MetricFamily> {
        let registries = self.0.lock().map(|all| all.clone()).unwrap_or_default();
        let mut sums = BTreeMap::<String, Sum>::new();
        for family in registries.iter().flat_map(Registry::gather) {
            sums.entry(family.name().to_owned())
                .or_insert_with(|| Sum::new(&family))
                .add(&family);
        }
        sums.into_values().map(Sum::into_family).collect()
    }
}

/// One metric's sum over all workers, by labels.
struct Sum {
    family: MetricFamily,
    metrics: BTreeMap<Vec<(String, String)>, Metric>,
}

impl Sum {
    fn new(family: &MetricFamily) -> Self {
        let mut empty = family.clone();
        empty.mut_metric().clear();
        Self {
            family: empty,
            metrics: BTreeMap::new(),
        }
    }

    fn add(&mut self, family: &MetricFamily) {
        let kind = family.get_field_type();
        for metric in family.get_metric() {
            let labels = metric.get_label().iter();
            let key = labels.map(|label| (label.name().to_owned(), label.value().to_owned()));
            match self.metrics.entry(key.collect()) {
                Entry::Vacant(place) => {
                    place.insert(metric.clone());
                }
                Entry::Occupied(mut place) => add(place.get_mut(), metric, kind),
            }
        }
    }

    fn into_family(mut self) -> MetricFamily {
        self.family.set_metric(self.metrics.into_values().collect());
        self.family
    }
}

fn add(sum: &mut Metric, metric: &Metric, kind: MetricType) {
    match kind {
        MetricType::COUNTER => {
            let value = sum.get_counter().get_value() + metric.get_counter().get_value();
            let mut counter = metric.get_counter().clone();
            counter.set_value(value);
            sum.set_counter(counter);
        }
        MetricType::GAUGE => {
            let value = sum.get_gauge().get_value() + metric.get_gauge().get_value();
            let mut gauge = metric.get_gauge().clone();
            gauge.set_value(value);
            sum.set_gauge(gauge);
        }
        _ => {
            let (ours, theirs) = (sum.get_histogram(), metric.get_histogram());
            let mut histogram = ours.clone();
            histogram.set_sample_count(ours.get_sample_count() + theirs.get_sample_count());
            histogram.set_sample_sum(ours.get_sample_sum() + theirs.get_sample_sum());
            let buckets = ours.get_bucket().iter().zip(theirs.get_bucket());
            let buckets = buckets.map(|(ours, theirs)| {
                let mut bucket = ours.clone();
                bucket.set_cumulative_count(ours.cumulative_count() + theirs.cumulative_count());
                bucket
            });
            histogram.set_bucket(buckets.collect());
            sum.set_histogram(histogram);
        }
    }
}
