//! The text form of OpenMetrics, family by family. Units follow from the names.

use std::fmt::{Error, Result};

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::store::Reading;

/// What a histogram counts: how many of it make a unit of the family's name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scale {
    /// Itself.
    One,
    /// Microseconds, which the family's name has as seconds.
    Micros,
}

/// A page that is being written.
#[derive(Debug)]
pub(super) struct Page<'a>(pub(super) DescriptorEncoder<'a>);

impl Page<'_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> std::result::Result<MetricEncoder<'s>, Error> {
        let (name, unit) = match (name.strip_suffix("_seconds"), name.strip_suffix("_bytes")) {
            (Some(name), _) => (name, Some(&Unit::Seconds)),
            (_, Some(name)) => (name, Some(&Unit::Bytes)),
            _ => (name, None),
        };
        self.0.encode_descriptor(name, help, unit, kind)
    }

    pub(super) fn info(&mut self, name: &str, help: &str, labels: impl EncodeLabelSet) -> Result {
        self.family(name, help, MetricType::Info)?.encode_info(&labels)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> Result {
        self.family(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// A gauge for each value of a label.
    pub(super) fn gauges<L: AsRef<str>, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        for (of, value) in values {
            family.encode_family(&[(label, of.as_ref())])?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// The name goes without `_total`.
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeCounterValue,
    ) -> Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// A counter for each value of a label. The name goes without `_total`.
    pub(super) fn counters<L: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        for (of, value) in values {
            let labels = [(label, of.as_ref())];
            let mut one = family.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A counter for each pair of values of two labels. The name goes without `_total`.
    pub(super) fn counters_by_two(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; 2],
        values: impl IntoIterator<Item = ([&'static str; 2], u64)>,
    ) -> Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        for (of, value) in values {
            let labels = [(labels[0], of[0]), (labels[1], of[1])];
            let mut one = family.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        scale: Scale,
        reading: &Reading,
    ) -> Result {
        histogram(self.family(name, help, MetricType::Histogram)?, scale, reading)
    }

    /// A histogram for each value of a label.
    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        scale: Scale,
        label: &str,
        readings: impl IntoIterator<Item = (&'static str, Reading)>,
    ) -> Result {
        let mut family = self.family(name, help, MetricType::Histogram)?;
        for (of, reading) in readings {
            histogram(family.encode_family(&[(label, of)])?, scale, &reading)?;
        }
        Ok(())
    }
}

fn histogram(mut encoder: MetricEncoder<'_>, scale: Scale, reading: &Reading) -> Result {
    let units = |value: u64| match scale {
        Scale::One => value as f64,
        Scale::Micros => value as f64 / 1e6,
    };
    let bounds = reading.bounds.iter().map(|bound| units(*bound)).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(reading.counts.iter().copied()).collect();
    let count = reading.counts.iter().sum();
    encoder.encode_histogram::<NoLabelSet>(units(reading.sum), count, &buckets, None)
}
