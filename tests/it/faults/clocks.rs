//! The machine's clock is a day wrong and then right again, while the service is killed and members follow.

use super::{check_attempts, connect};
use crate::on_both_databases;
use crate::recovery::{check_everything, set_up};
use crate::support::process::Installation;

/// In seconds.
pub(super) const DAY: i64 = 24 * 3_600;

on_both_databases! {
    async fn g1_g2_g3_a_clock_that_is_a_day_wrong_and_right_again_loses_nothing(database: TestDatabase) {
        let installation = Installation::new(database);
        let mut process = installation.serve().await;
        let (drive, all, some) = set_up(&process).await;

        for wrong_by in [DAY, 0, -DAY, 0] {
            drive.wait_for(drive.count() + 40).await;
            all.wait_for(all.count() + 40).await;
            drive.shop.is_away();
            process.kill();
            process = installation.serve_when(wrong_by).await;
            drive.shop.is_at(&process.url);
        }
        drive.wait_for(drive.count() + 40).await;
        drive.stop().await;

        check_everything(&installation, &drive, [&all, &some]).await;
        check_attempts(&connect(&installation.database.url).await).await;
        assert!(process.terminate().await.success());
    }
}
