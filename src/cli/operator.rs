//! Brings the topology of `config.toml` into force, at start and whenever the file is edited.
//!
//! Invariant: an edit is in force as a whole, or not at all and every reason is in the log.

use std::sync::Arc;

use anyhow::{Result, bail};
use ferrymq_protocol::table::{Table, Value};
use parking_lot::Mutex;
use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

use crate::config::watch::Watch;
use crate::config::{self, Argument, Arguments, Config, ConfigError, Diagnostic, Diagnostics, Located};
use crate::model::{
    BindingDefinition, Destination, ExchangeDefinition, ExchangeKind, ExchangeName, Origin, PolicyDefinition,
    PolicyKind, PolicyName, QueueDefinition, QueueName, RoutingKey,
};
use crate::runtime::VhostHandle;
use crate::topology::{Refusal, check_pattern, parse_apply_to};
use crate::vhost::{Conflict, Declaration, OperatorTopology};

/// Follows the file for as long as it lives.
pub(super) struct Operator {
    file: Arc<File>,
    _watch: Option<Watch>,
}

/// The file as it is in force.
struct File {
    /// As the broker was started with it: sections that need a restart are in force as they stand here.
    started: Config,
    config: Mutex<Config>,
    vhost: Arc<VhostHandle>,
}

impl Operator {
    /// Brings the file into force and begins to watch it.
    ///
    /// # Errors
    /// If anything in the file conflicts with what exists.
    pub(super) fn start(config: &Config, vhost: Arc<VhostHandle>) -> Result<Self> {
        let file = Arc::new(File { started: config.clone(), config: Mutex::new(config.clone()), vhost });
        if let Err(diagnostics) = file.apply(config) {
            bail!("{diagnostics}");
        }
        let watch = config.source.path.as_deref().and_then(|path| {
            let watched = Arc::clone(&file);
            let watch = Watch::start(path, config.source.text.as_bytes(), move |_| watched.reload());
            watch.map_err(|error| warn!("{error}; edits take effect on SIGHUP only")).ok()
        });
        Ok(Self { file, _watch: watch })
    }

    /// Reads the file again at each SIGHUP, for ever.
    pub(super) async fn follow(&self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            let file = Arc::clone(&self.file);
            if tokio::task::spawn_blocking(move || file.reload()).await.is_err() {
                error!("reading the configuration again has failed");
            }
        }
        std::future::pending::<()>().await;
    }
}

impl File {
    fn reload(&self) {
        let mut current = self.config.lock();
        let edited = match current.reload() {
            Ok(edited) => edited,
            Err(ConfigError::Invalid(diagnostics)) => return say_refused(&diagnostics),
            Err(error) => return error!("the configuration stays as it is: {error}"),
        };
        let pending = self.started.restart_needed(&edited);
        for section in current.restart_needed(&edited) {
            // Back to what is in force, and so nothing to be said.
            if !pending.contains(&section) {
                continue;
            }
            warn!("{section} has changed in the configuration: a restart puts it into force");
        }
        match self.apply(&edited) {
            Ok(()) => *current = edited,
            Err(diagnostics) => say_refused(&diagnostics),
        }
    }

    fn apply(&self, config: &Config) -> Result<(), Diagnostics> {
        check(config)?;
        let wanted = topology(config);
        match self.vhost.apply_operator(&wanted) {
            Ok(report) => {
                say_objects("declared", &report.created);
                say_objects("removed", &report.removed);
                for kept in &report.kept {
                    warn!("configuration: no longer declared but still in use: {kept}");
                }
                Ok(())
            }
            Err(conflicts) => {
                Err(Diagnostics(conflicts.iter().map(|conflict| diagnose(config, conflict)).collect()))
            }
        }
    }
}

/// Names what an edit did, as far as one line of the log goes.
fn say_objects(what: &str, objects: &[String]) {
    const NAMED: usize = 5;
    let named = objects[..objects.len().min(NAMED)].join(", ");
    match objects.len() {
        0 => {}
        1..=NAMED => info!("configuration: {what} {named}"),
        len => info!("configuration: {what} {named} and {} more", len - NAMED),
    }
}

/// One line of the log for each error, because a log escapes line breaks.
fn say_refused(diagnostics: &Diagnostics) {
    for diagnostic in &diagnostics.0 {
        error!("{}", diagnostic.one_line());
    }
    error!("the edit of the configuration changes nothing; errors in it: {}", diagnostics.0.len());
}

/// Checks what the configuration by itself cannot: that the patterns of policies are regular expressions.
pub(super) fn check(config: &Config) -> Result<(), Diagnostics> {
    let wrong = config.policies.iter().filter_map(|policy| {
        let Located { line, value } = &policy.value.pattern;
        let reason = check_pattern(value).err()?;
        let help = if reason.starts_with("look-around") {
            "a pattern may begin with a look-ahead, as in '^(?!amq\\.)', and have none further on"
        } else {
            "write a regular expression, such as '^orders\\.'"
        };
        let message = format!("'pattern' is no regular expression: {reason}");
        Some(config.source.refusal(*line, message, Some(help.to_owned())))
    });
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(Diagnostics(wrong)) }
}

/// What an operator can do about a refusal.
fn advice(refusal: &Refusal) -> Option<String> {
    match refusal {
        Refusal::Inequivalent { subject, .. } => {
            Some(format!("write what it has, or delete {subject} so that the file can declare it anew"))
        }
        Refusal::PolicyDiffers { .. } => {
            Some("write what it has, or delete it so that the file can declare it anew".to_owned())
        }
        Refusal::NoQueue { queue, .. } => Some(format!("add [[queue]] with name = \"{queue}\"")),
        Refusal::NoExchange { exchange, .. } => Some(format!("add [[exchange]] with name = \"{exchange}\"")),
        _ => None,
    }
}

fn diagnose(config: &Config, conflict: &Conflict) -> Diagnostic {
    let line = match conflict.declaration {
        Declaration::Exchange(place) => config.exchanges[place].line,
        Declaration::Queue(place) => config.queues[place].line,
        Declaration::Binding(place) => config.bindings[place].line,
        Declaration::Policy(place) => config.policies[place].line,
    };
    config.source.refusal(line, &conflict.refusal, advice(&conflict.refusal))
}

fn topology(config: &Config) -> OperatorTopology {
    OperatorTopology {
        exchanges: config.exchanges.iter().map(|exchange| exchange_definition(&exchange.value)).collect(),
        queues: config.queues.iter().map(|queue| queue_definition(&queue.value)).collect(),
        bindings: config.bindings.iter().map(|binding| binding_definition(&binding.value)).collect(),
        policies: config.policies.iter().map(|policy| policy_definition(&policy.value)).collect(),
    }
}

fn exchange_definition(exchange: &config::Exchange) -> ExchangeDefinition {
    ExchangeDefinition {
        name: ExchangeName::from(exchange.name.as_str()),
        kind: match exchange.kind {
            config::ExchangeType::Direct => ExchangeKind::Direct,
            config::ExchangeType::Fanout => ExchangeKind::Fanout,
            config::ExchangeType::Topic => ExchangeKind::Topic,
            config::ExchangeType::Headers => ExchangeKind::Headers,
            config::ExchangeType::ConsistentHash => ExchangeKind::ConsistentHash,
            config::ExchangeType::Random => ExchangeKind::Random,
            config::ExchangeType::ModulusHash => ExchangeKind::ModulusHash,
            config::ExchangeType::RecentHistory => ExchangeKind::RecentHistory,
            config::ExchangeType::Delayed => ExchangeKind::Delayed,
        },
        durable: exchange.durable,
        auto_delete: exchange.auto_delete,
        internal: exchange.internal,
        arguments: table(&exchange.arguments),
        origin: Origin::Config,
    }
}

fn queue_definition(queue: &config::Queue) -> QueueDefinition {
    QueueDefinition {
        name: QueueName::from(queue.name.as_str()),
        durable: queue.durable,
        exclusive: false,
        auto_delete: queue.auto_delete,
        arguments: table(&queue.arguments),
        origin: Origin::Config,
    }
}

fn binding_definition(binding: &config::Binding) -> BindingDefinition {
    BindingDefinition {
        source: ExchangeName::from(binding.source.as_str()),
        destination: match &binding.destination {
            config::Destination::Queue(name) => Destination::Queue(QueueName::from(name.as_str())),
            config::Destination::Exchange(name) => Destination::Exchange(ExchangeName::from(name.as_str())),
        },
        routing_key: RoutingKey::from(binding.routing_key.as_str()),
        arguments: table(&binding.arguments),
        origin: Origin::Config,
    }
}

fn policy_definition(policy: &config::Policy) -> PolicyDefinition {
    PolicyDefinition {
        name: PolicyName::from(policy.name.as_str()),
        kind: if policy.operator { PolicyKind::Operator } else { PolicyKind::User },
        pattern: policy.pattern.value.clone(),
        apply_to: parse_apply_to(policy.apply_to).expect("the configuration has none but the known words"),
        priority: policy.priority,
        definition: table(&policy.definition),
        origin: Origin::Config,
    }
}

fn table(arguments: &Arguments) -> Table {
    let mut table = Table::default();
    for (name, argument) in arguments {
        table.insert(name, value(argument)).expect("the configuration has checked the names' length");
    }
    table
}

fn value(argument: &Argument) -> Value {
    match argument {
        Argument::Bool(value) => Value::Boolean(*value),
        Argument::Integer(value) => Value::I64(*value),
        Argument::Float(value) => Value::F64(*value),
        Argument::Text(value) => Value::LongString(value.as_bytes().to_vec()),
        Argument::List(values) => Value::Array(values.iter().map(value).collect()),
        Argument::Table(arguments) => Value::Table(table(arguments)),
    }
}
