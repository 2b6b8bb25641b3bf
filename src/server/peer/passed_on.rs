//! Whether what a client asked for was passed on to another node: the audit tells.

use std::cell::Cell;

tokio::task_local! {
    static PASSED_ON: Cell<bool>;
}

/// Does `work`, and tells whether another node was asked to.
pub async fn watch<T>(work: impl Future<Output = T>) -> (T, bool) {
    let watched = async {
        let done = work.await;
        (done, PASSED_ON.with(Cell::get))
    };
    PASSED_ON.scope(Cell::new(false), watched).await
}

/// Notes that another node is asked, if somebody wants to know.
pub(crate) fn note() {
    // Nobody does for what a node does by itself.
    let _ = PASSED_ON.try_with(|passed_on| passed_on.set(true));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_request_has_its_own() {
        note();
        let passed = watch(async {
            tokio::task::yield_now().await;
            note();
            7
        });
        let kept = watch(async { tokio::task::yield_now().await });
        let (passed, kept) = tokio::join!(passed, kept);
        assert_eq!((passed, kept), ((7, true), ((), false)));
    }
}
