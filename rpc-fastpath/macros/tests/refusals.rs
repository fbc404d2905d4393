//! What the compiler says about a service that cannot be, and where it points.

#[test]
fn what_cannot_be_a_service_is_told_where_it_stands() {
    trybuild::TestCases::new().compile_fail("tests/refusals/*.rs");
}
