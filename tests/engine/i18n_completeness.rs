//! What one Fluent file lacks that another has, read from their syntax trees.

use std::collections::{BTreeMap, BTreeSet};

use fluent_syntax::ast::{Entry, Expression, InlineExpression, Pattern, PatternElement};
use fluent_syntax::parser;

/// What one text uses: arguments, and other messages.
#[derive(Default)]
struct Uses {
    arguments: BTreeSet<String>,
    messages: BTreeSet<String>,
}

/// The texts of a file: `id` for a message's value, `id.name` for an attribute.
type Texts = BTreeMap<String, Uses>;

/// Everything that `text` lacks or has too much, compared with `reference`, in words.
pub(crate) fn defects(reference: &str, text: &str) -> Vec<String> {
    let mut defects = Vec::new();
    let reference = texts(reference, &mut defects);
    let other = texts(text, &mut defects);
    for name in other.keys().filter(|name| !reference.contains_key(*name)) {
        defects.push(format!("{name} is not in the reference"));
    }
    for (name, uses) in &other {
        let unknown = uses.messages.iter().filter(|message| !other.contains_key(*message));
        defects.extend(unknown.map(|message| format!("{name} refers to unknown {message}")));
    }
    for name in reference.keys() {
        if !other.contains_key(name) {
            defects.push(format!("{name} is missing"));
            continue;
        }
        let (wanted, found) = (arguments(name, &reference), arguments(name, &other));
        // The raw value beside a `-text` is there for plurals, which a language may not need.
        let optional = |argument: &String| wanted.contains(&format!("{argument}-text"));
        let lacks = wanted.iter().filter(|argument| !found.contains(*argument) && !optional(argument));
        defects.extend(lacks.map(|argument| format!("{name} lacks ${argument}")));
        defects.extend(found.difference(&wanted).map(|argument| format!("{name} has unknown ${argument}")));
    }
    defects
}

/// The arguments of a text, those of the messages that it refers to included.
fn arguments(name: &str, texts: &Texts) -> BTreeSet<String> {
    let mut arguments = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut ahead = vec![name];
    while let Some(name) = ahead.pop() {
        if let Some(uses) = texts.get(name).filter(|_| seen.insert(name)) {
            arguments.extend(uses.arguments.iter().cloned());
            ahead.extend(uses.messages.iter().map(String::as_str));
        }
    }
    arguments
}

fn texts(source: &str, defects: &mut Vec<String>) -> Texts {
    let resource = parser::parse(source).unwrap_or_else(|(readable, errors)| {
        defects.extend(errors.iter().map(|error| format!("{:?} is not valid Fluent: {error}", error.slice)));
        readable
    });
    let mut texts = Texts::new();
    for entry in &resource.body {
        if let Entry::Message(message) = entry {
            let id = message.id.name;
            let attributes =
                message.attributes.iter().map(|attribute| (format!("{id}.{}", attribute.id.name), &attribute.value));
            for (name, pattern) in message.value.iter().map(|value| (id.to_owned(), value)).chain(attributes) {
                let mut uses = Uses::default();
                walk(pattern, &mut uses);
                if texts.insert(name.clone(), uses).is_some() {
                    defects.push(format!("{name} is there twice"));
                }
            }
        }
    }
    texts
}

fn walk(pattern: &Pattern<&str>, uses: &mut Uses) {
    for element in &pattern.elements {
        if let PatternElement::Placeable { expression } = element {
            walk_expression(expression, uses);
        }
    }
}

fn walk_expression(expression: &Expression<&str>, uses: &mut Uses) {
    match expression {
        Expression::Inline(inline) => walk_inline(inline, uses),
        Expression::Select { selector, variants } => {
            walk_inline(selector, uses);
            variants.iter().for_each(|variant| walk(&variant.value, uses));
        }
    }
}

fn walk_inline(inline: &InlineExpression<&str>, uses: &mut Uses) {
    match inline {
        InlineExpression::VariableReference { id } => {
            uses.arguments.insert(id.name.to_owned());
        }
        InlineExpression::MessageReference { id, attribute } => {
            let attribute = attribute.as_ref().map(|attribute| format!(".{}", attribute.name)).unwrap_or_default();
            uses.messages.insert(format!("{}{attribute}", id.name));
        }
        InlineExpression::FunctionReference { arguments, .. } => {
            arguments.positional.iter().for_each(|argument| walk_inline(argument, uses));
        }
        InlineExpression::Placeable { expression } => walk_expression(expression, uses),
        _ => {}
    }
}
