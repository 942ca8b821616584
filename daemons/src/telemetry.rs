//! Logs: lines of key=value for people, JSON for machines, on stderr.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// Starts logging for this process: our own parts from `level` on, libraries only their warnings.
/// Later calls change nothing.
pub fn start(level: LevelFilter, format: LogFormat) {
    let ours = env!("CARGO_PKG_NAME").replace('-', "_");
    let filter = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(ours, level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let layer = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
