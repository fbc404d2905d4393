//! Descriptions: text, values, graphs, and what is said when they are wrong.

use fbufs::PoolOptions;
use proptest::prelude::*;
use protocols::description::{NodeDescription, Problem};
use protocols::{Description, Graph, Kinds, Limits, Pool};

fn build(text: &str) -> Result<Graph, String> {
    let description: Description =
        text.parse().map_err(|error: protocols::description::ParseError| error.to_string())?;
    let pool = Pool::new(PoolOptions::default()).expect("memory is left");
    Graph::new(&description, &Kinds::standard(), pool, Limits::default())
        .map_err(|error| error.to_string())
}

#[test]
fn text_and_builder_give_the_same_graph() -> Result<(), Problem> {
    let text = "# two layers\nsequencing: lossy # order\nlossy = fault(loss=0.01, seed=7): wire\n\nwire = device(mtu=9000)";
    let built = Description::new()
        .node(NodeDescription::new("sequencing")?.over("lossy")?)
        .node(
            NodeDescription::new("lossy")?
                .of("fault")?
                .with("loss", 0.01)?
                .with("seed", 7)?
                .over("wire")?,
        )
        .node(NodeDescription::new("wire")?.of("device")?.with("mtu", 9000)?);
    let parsed: Description = text.parse().expect("it is a description");
    assert_eq!(parsed, built);
    let graph = build(text).expect("it is a graph");
    assert_eq!(graph.description(), built);
    assert_eq!(graph.to_string().parse::<Description>(), Ok(built));
    Ok(())
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_what_to_do() {
    let wrong = |text: &str| build(text).expect_err("it is wrong");
    assert_eq!(
        wrong("tag: wire"),
        "line 1, node `tag`: `wire` is described nowhere: add a line for it, or correct the name"
    );
    assert!(
        wrong("\nx = nothing")
            .starts_with("line 2, node `x`: there is no kind `nothing`: write one of")
    );
    assert_eq!(wrong("tag:"), "line 1: no nodes follow the `:`: name them, or leave it out");
    assert_eq!(wrong("tag(number=1"), "line 1: a `)` is missing behind the options");
    assert!(wrong("tag(number)").starts_with("line 1: `number` is no option: write `name=value`"));
    assert_eq!(
        wrong("tag(number=1, number=2)"),
        "line 1: the option `number` is there twice: leave one out"
    );
    assert_eq!(wrong("t ag"), "line 1: `t ag` is no name: write letters, digits, `-` and `_`");
    assert!(wrong("device\ndevice").starts_with("line 2: `device` was described before"));
    assert_eq!(
        wrong("device(mtu=1)"),
        "line 1, node `device`: `mtu=1` is not possible: write a number of bytes from 64"
    );
    assert_eq!(
        wrong("device(mut=100)"),
        "line 1, node `device`: there is no option `mut` here: write one of mtu"
    );
    assert_eq!(
        wrong("fault(delay=5): device\ndevice"),
        "line 1, node `fault`: `delay=5` is not possible: write a whole number of ns, us, ms or s, such as 250us"
    );
    assert_eq!(
        wrong("a = tag: b\nb = tag: a"),
        "line 1, node `a`: it is below itself: edges must lead from upper nodes to lower ones"
    );
    assert!(wrong("tap: device\ndevice").contains("the option `file` is missing: add `file=…`"));
}

#[test]
fn a_graph_can_be_drawn() {
    let graph = build("top = tag(number=3): wire\nwire = device").expect("it is a graph");
    let dot = graph.to_dot();
    assert!(dot.starts_with("digraph protocols {"));
    assert!(dot.contains("\"top\" [label=\"top\\ntag\\nnumber=3\"];"));
    assert!(dot.contains("\"top\" -> \"wire\";"));
}

#[test]
fn a_drawing_of_a_graph_quotes_what_graphviz_would_misread() {
    let text = r#"tap(file="C:\new"]): wire"#;
    let dot = text.parse::<Description>().expect("it is a description").to_dot();
    assert!(dot.contains(r#""tap" [label="tap\nfile=\"C:\\new\"]"];"#), "{dot}");
}

#[test]
fn what_could_not_be_read_back_is_not_made() {
    for bad in ["", " ", "a b", "a\nb", "a(", "a:b", "a=b", "a#", "a,b", "\u{e4}", "\""] {
        let node = || NodeDescription::new("a").expect("it is a name");
        let refused = Err(Problem::Name(bad.to_owned()));
        assert_eq!(NodeDescription::new(bad), refused);
        assert_eq!(node().of(bad), refused);
        assert_eq!(node().over(bad), refused);
        assert!(matches!(node().with(bad, 1), Err(Problem::Option(_))));
    }
    for bad in ["", " ", "a b", "a\tb", "a\nb", "\u{a0}", "(", ")", "a,b", "a#b", "#"] {
        let refused = NodeDescription::new("a").and_then(|node| node.with("x", bad));
        assert_eq!(refused, Err(Problem::Option(format!("x={bad}"))));
    }
    assert!("a(x=b#c)".parse::<NodeDescription>().is_err());
}

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_-]{0,6}"
}

prop_compose! {
    fn node()(
        name in word(),
        kind in word(),
        options in prop::collection::btree_map(word(), "[A-Za-z0-9:./_=-]{1,8}", 0..3),
        lowers in prop::collection::vec(word(), 0..3),
    ) -> NodeDescription {
        build_node(&name, &kind, &options.into_iter().collect::<Vec<_>>(), &lowers).expect("all are good")
    }
}

fn build_node(
    name: &str,
    kind: &str,
    options: &[(String, String)],
    lowers: &[String],
) -> Result<NodeDescription, Problem> {
    let node = NodeDescription::new(name)?.of(kind)?;
    let node = options.iter().try_fold(node, |node, (name, value)| node.with(name, value))?;
    lowers.iter().try_fold(node, |node, lower| node.over(lower))
}

/// Mostly good, with a character that may not be good.
fn strange() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{1,3}", "[a-c]{0,2}[-a-c =:(),#\"'\\\\\r\n\t]{0,2}[a-c]{0,2}", "\\PC{0,3}"]
}

proptest! {
    #[test]
    fn every_description_is_shown_as_text_that_parses_to_it(nodes in prop::collection::vec(node(), 0..6)) {
        let mut description = Description::new();
        for node in nodes {
            if description.find(node.name()).is_none() {
                description = description.node(node);
            }
        }
        prop_assert_eq!(description.to_string().parse(), Ok(description));
    }

    #[test]
    fn a_node_is_refused_or_shown_as_text_that_parses_to_it(
        name in strange(),
        kind in strange(),
        options in prop::collection::vec((strange(), strange()), 0..3),
        lowers in prop::collection::vec(strange(), 0..3),
    ) {
        if let Ok(node) = build_node(&name, &kind, &options, &lowers) {
            prop_assert_eq!(node.to_string().parse(), Ok(node.clone()));
            prop_assert_eq!(node.to_string().parse(), Ok(Description::new().node(node)));
        }
    }

    #[test]
    fn any_line_is_refused_or_shown_as_text_that_parses_to_it(text in "[ab=(),: #\n\"\u{a0}]{0,16}") {
        if let Ok(node) = text.parse::<NodeDescription>() {
            prop_assert_eq!(node.to_string().parse(), Ok(Description::new().node(node)));
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[a-z0-9=(),: #\n]{0,60}") {
        if let Ok(description) = text.parse::<Description>() {
            prop_assert_eq!(description.to_string().parse(), Ok(description));
        }
    }
}
